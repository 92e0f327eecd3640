"""A run folder as one page that opens anywhere, and as a model card: what to use, why, and what it gets wrong."""

from emoray.report import model_card, page

__all__ = ["model_card", "page", "write"]

write = page.write
