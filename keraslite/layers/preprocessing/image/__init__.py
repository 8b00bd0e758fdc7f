"""Layers that resize, crop and augment images, and the boxes, masks and labels that go with them.

`base` takes a call apart and hands its fields to methods that a layer overrides; `draws` has the
random numbers, a row a picture. `adjust` and `histograms` are colours as pure functions, `color`
the layers over them; `geometric` moves pixels, boxes and masks by one matrix a picture.
"""
