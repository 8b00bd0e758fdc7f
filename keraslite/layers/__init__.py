"""The layers, under their Keras names."""

from keraslite.layers.input_layer import Input, InputLayer
from keraslite.layers.input_spec import InputSpec
from keraslite.layers.layer import Layer
