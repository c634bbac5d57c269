"""Figures about pictures: seams, poles, ranks, diversity, attributes read back."""
