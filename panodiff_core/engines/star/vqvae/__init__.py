"""The autoencoder of STAR: pictures ↔ codes on a pyramid of scales."""

from .model import VQVAE
from .quantizer import Quantized, Quantizer

__all__ = ["VQVAE", "Quantized", "Quantizer"]
