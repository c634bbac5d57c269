"""The network and what is put on it: rings of tokens, attention, LoRAs."""

from .attention import CallableAttention, use_attention
from .grid import RingGrid
from .lora import LoraStack, LoraWeights
from .network import FluxNetwork, build_transformer, check_transformer_config, velocity

__all__ = [
    "CallableAttention",
    "FluxNetwork",
    "LoraStack",
    "LoraWeights",
    "RingGrid",
    "build_transformer",
    "check_transformer_config",
    "use_attention",
    "velocity",
]
