"""Arrays in, arrays out: pictures and points to remember, and ways to spoil them."""

from amtutor.data.cifar import CLASSES as CIFAR10_CLASSES
from amtutor.data.cifar import cifar10, read_cifar10_batch
from amtutor.data.convert import binarise, to_spins, to_unit
from amtutor.data.corrupt import add_noise, blur, flip_bits, mask, region, shift
from amtutor.data.creatures import Sprites, sprites
from amtutor.data.files import DataCorrupt, DataNotFound
from amtutor.data.idx import digits, mnist, read_idx, split_digits
from amtutor.data.photos import photos
from amtutor.data.shapes import datasaurus, dinosaur

__all__ = [
    "CIFAR10_CLASSES",
    "DataCorrupt",
    "DataNotFound",
    "Sprites",
    "add_noise",
    "binarise",
    "blur",
    "cifar10",
    "datasaurus",
    "digits",
    "dinosaur",
    "flip_bits",
    "mask",
    "mnist",
    "photos",
    "read_cifar10_batch",
    "read_idx",
    "region",
    "shift",
    "split_digits",
    "sprites",
    "to_spins",
    "to_unit",
]
