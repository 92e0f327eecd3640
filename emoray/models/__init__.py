"""Architectures by name: every public function in this package's modules builds one.

Each takes raw 0-255 pixels and gives float32 logits; scaling, grey to RGB and upsampling live inside the model.
"""
