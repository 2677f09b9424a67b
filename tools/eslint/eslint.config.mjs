// The rules for book/_static/explorables: what runs in a reader's page, and nothing from outside it.

const BROWSER = [
  "addEventListener", "atob", "cancelAnimationFrame", "clearTimeout", "document", "getComputedStyle",
  "history", "IntersectionObserver", "location", "matchMedia", "MutationObserver", "performance",
  "Path2D", "removeEventListener", "requestAnimationFrame", "ResizeObserver", "setTimeout", "structuredClone",
  "URLSearchParams", "window",
];

export default [
  {
    files: ["book/_static/explorables/*.js"],
    languageOptions: {
      ecmaVersion: 2023,
      sourceType: "module",
      globals: Object.fromEntries(BROWSER.map((name) => [name, "readonly"])),
    },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "no-undef": "error",
      "no-unused-vars": "error",
      "no-redeclare": "error",
      "no-shadow": "error",
      "no-use-before-define": ["error", { functions: false, classes: false, variables: false }],
      "no-unreachable": "error",
      "no-fallthrough": "error",
      "no-dupe-keys": "error",
      "no-dupe-else-if": "error",
      "no-cond-assign": "error",
      "no-constant-condition": "error",
      "no-const-assign": "error",
      "no-self-assign": "error",
      "no-self-compare": "error",
      "no-loop-func": "error",
      "no-var": "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "prefer-const": ["error", { destructuring: "all" }],
      "consistent-return": "error",
      "array-callback-return": "error",
      "default-case-last": "error",
      "use-isnan": "error",
      "valid-typeof": "error",
      eqeqeq: ["error", "always", { null: "ignore" }],
      "max-len": ["error", { code: 110, ignoreUrls: true }],
      complexity: ["error", 14],
      "max-depth": ["error", 4],
      "max-params": ["error", 6],
      "max-lines-per-function": ["error", { max: 60, skipBlankLines: true, skipComments: true }],
      "max-lines": ["error", { max: 800, skipBlankLines: true, skipComments: true }],
    },
  },
  {
    files: ["book/_static/explorables/{sprites,tower_weights}.js"], // data, written by a tool
    rules: { "max-len": "off" },
  },
];
