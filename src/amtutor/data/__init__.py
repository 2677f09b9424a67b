"""Arrays in, arrays out: pictures and points to remember, and ways to spoil them."""

from amtutor.data.convert import binarise, to_spins, to_unit
from amtutor.data.corrupt import add_noise, blur, flip_bits, mask, region, shift
from amtutor.data.sprites import Sprites, sprites

__all__ = [
    "Sprites",
    "add_noise",
    "binarise",
    "blur",
    "flip_bits",
    "mask",
    "region",
    "shift",
    "sprites",
    "to_spins",
    "to_unit",
]
