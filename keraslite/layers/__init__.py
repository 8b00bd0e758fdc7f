"""The layers, under their Keras names."""

from collections.abc import Mapping
from typing import Any

from keraslite.layers.activation import (
    ELU,
    GELU,
    Activation,
    LeakyReLU,
    PReLU,
    ReLU,
    Softmax,
)
from keraslite.layers.attention import (
    GroupedQueryAttention,
    GroupQueryAttention,
    MultiHeadAttention,
)
from keraslite.layers.base.input_spec import InputSpec
from keraslite.layers.base.layer import Layer
from keraslite.layers.batch_normalization import BatchNormalization, SpectralNormalization
from keraslite.layers.convolution import (
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
    DepthwiseConv1D,
    DepthwiseConv2D,
    SeparableConv1D,
    SeparableConv2D,
)
from keraslite.layers.core import Dense, EinsumDense, Identity, Masking, Wrapper
from keraslite.layers.embedding import Embedding, ReversibleEmbedding
from keraslite.layers.frameworks.flax_module import FlaxLayer
from keraslite.layers.frameworks.haiku_module import HaikuLayer
from keraslite.layers.frameworks.jax_function import JaxLayer
from keraslite.layers.frameworks.saved_model import TFSMLayer
from keraslite.layers.frameworks.tf_module import TFModuleLayer
from keraslite.layers.frameworks.torch_module import TorchModuleWrapper
from keraslite.layers.input_layer import Input, InputLayer
from keraslite.layers.lambda_layer import Lambda
from keraslite.layers.merging import (
    Add,
    Average,
    Concatenate,
    Dot,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
    add,
    average,
    concatenate,
    dot,
    maximum,
    minimum,
    multiply,
    subtract,
)
from keraslite.layers.normalization import (
    GroupNormalization,
    LayerNormalization,
    RMSNormalization,
    UnitNormalization,
)
from keraslite.layers.plain_attention import AdditiveAttention, Attention
from keraslite.layers.pooling import (
    AdaptiveAveragePooling1D,
    AdaptiveAveragePooling2D,
    AdaptiveAveragePooling3D,
    AdaptiveMaxPooling1D,
    AdaptiveMaxPooling2D,
    AdaptiveMaxPooling3D,
    AveragePooling1D,
    AveragePooling2D,
    AveragePooling3D,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalAveragePooling3D,
    GlobalMaxPooling1D,
    GlobalMaxPooling2D,
    GlobalMaxPooling3D,
    MaxPooling1D,
    MaxPooling2D,
    MaxPooling3D,
)
from keraslite.layers.preprocessing.category_encoding import CategoryEncoding
from keraslite.layers.preprocessing.data_layer import Pipeline
from keraslite.layers.preprocessing.discretization import Discretization
from keraslite.layers.preprocessing.hashing import HashedCrossing, Hashing
from keraslite.layers.preprocessing.image.color import (
    AutoContrast,
    RandomBrightness,
    RandomColorDegeneration,
    RandomColorJitter,
    RandomContrast,
    RandomGrayscale,
    RandomHSV,
    RandomHue,
    RandomInvert,
    RandomPosterization,
    RandomSaturation,
    RandomSharpness,
    Solarization,
)
from keraslite.layers.preprocessing.image.cropping import (
    CenterCrop,
    MaxNumBoundingBoxes,
    RandomCrop,
    Resizing,
)
from keraslite.layers.preprocessing.image.effects import (
    RandomElasticTransform,
    RandomErasing,
    RandomGaussianBlur,
)
from keraslite.layers.preprocessing.image.geometric import (
    RandomAffine,
    RandomFlip,
    RandomPerspective,
    RandomRotation,
    RandomShear,
    RandomTranslation,
    RandomZoom,
)
from keraslite.layers.preprocessing.image.histograms import (
    ContrastLimitedAdaptiveHistogramEqualization,
    Equalization,
)
from keraslite.layers.preprocessing.image.mixing import CutMix, MixUp, Mosaic
from keraslite.layers.preprocessing.image.policies import AugMix, RandAugment
from keraslite.layers.preprocessing.integer_lookup import IntegerLookup
from keraslite.layers.preprocessing.numeric import Normalization, Rescaling
from keraslite.layers.preprocessing.spectrogram import MelSpectrogram, STFTSpectrogram
from keraslite.layers.preprocessing.string_lookup import StringLookup
from keraslite.layers.preprocessing.text_vectorization import TextVectorization
from keraslite.layers.regularization import (
    ActivityRegularization,
    AlphaDropout,
    Dropout,
    GaussianDropout,
    GaussianNoise,
    SpatialDropout1D,
    SpatialDropout2D,
    SpatialDropout3D,
)
from keraslite.layers.reshaping import (
    Cropping1D,
    Cropping2D,
    Cropping3D,
    Flatten,
    Permute,
    RepeatVector,
    Reshape,
    UpSampling1D,
    UpSampling2D,
    UpSampling3D,
    ZeroPadding1D,
    ZeroPadding2D,
    ZeroPadding3D,
)
from keraslite.layers.rnn.bidirectional import Bidirectional
from keraslite.layers.rnn.cells import GRUCell, LSTMCell, SimpleRNNCell
from keraslite.layers.rnn.conv_lstm import ConvLSTM1D, ConvLSTM2D, ConvLSTM3D
from keraslite.layers.rnn.recurrent import GRU, LSTM, SimpleRNN
from keraslite.layers.rnn.rnn import RNN
from keraslite.layers.rnn.stacked import StackedRNNCells
from keraslite.layers.rnn.time_distributed import TimeDistributed
from keraslite.registry import deserialize_keras_object, serialize_keras_object

AvgPool1D, AvgPool2D, AvgPool3D = AveragePooling1D, AveragePooling2D, AveragePooling3D
MaxPool1D, MaxPool2D, MaxPool3D = MaxPooling1D, MaxPooling2D, MaxPooling3D
GlobalAvgPool1D, GlobalMaxPool1D = GlobalAveragePooling1D, GlobalMaxPooling1D
GlobalAvgPool2D, GlobalMaxPool2D = GlobalAveragePooling2D, GlobalMaxPooling2D
GlobalAvgPool3D, GlobalMaxPool3D = GlobalAveragePooling3D, GlobalMaxPooling3D
Convolution1D, Convolution2D, Convolution3D = Conv1D, Conv2D, Conv3D
Convolution1DTranspose, Convolution2DTranspose = Conv1DTranspose, Conv2DTranspose
Convolution3DTranspose = Conv3DTranspose
SeparableConvolution1D, SeparableConvolution2D = SeparableConv1D, SeparableConv2D


def serialize(layer: Any) -> Any:
    """Return the config of a layer.

    >>> serialize(Flatten(name="flat"))["class_name"]
    'Flatten'
    """
    return serialize_keras_object(layer)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Return the layer of a config.

    Args:
        config: what `serialize` returned.
        custom_objects: classes and functions by name, beside the registered ones.

    Raises:
        ValueError: it is the config of something else.

    >>> deserialize(serialize(Flatten(name="flat"))).name
    'flat'
    """
    layer = deserialize_keras_object(config, custom_objects)
    if not isinstance(layer, Layer):
        raise ValueError(f"The config must be that of a layer, got one of {layer!r}: {config!r}.")
    return layer


__all__ = [
    "Activation", "ActivityRegularization", "AdaptiveAveragePooling1D", "AdaptiveAveragePooling2D",
    "AdaptiveAveragePooling3D", "AdaptiveMaxPooling1D", "AdaptiveMaxPooling2D",
    "AdaptiveMaxPooling3D", "Add", "AdditiveAttention", "AlphaDropout", "Attention", "AugMix",
    "AutoContrast", "Average", "AveragePooling1D", "AveragePooling2D", "AveragePooling3D",
    "AvgPool1D", "AvgPool2D", "AvgPool3D", "BatchNormalization", "Bidirectional",
    "CategoryEncoding", "CenterCrop", "Concatenate", "ContrastLimitedAdaptiveHistogramEqualization",
    "Conv1D", "Conv1DTranspose", "Conv2D", "Conv2DTranspose", "Conv3D", "Conv3DTranspose",
    "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "Convolution1D", "Convolution1DTranspose",
    "Convolution2D", "Convolution2DTranspose", "Convolution3D", "Convolution3DTranspose",
    "Cropping1D", "Cropping2D", "Cropping3D", "CutMix", "Dense", "DepthwiseConv1D",
    "DepthwiseConv2D", "Discretization", "Dot", "Dropout", "ELU", "EinsumDense", "Embedding",
    "Equalization", "Flatten", "FlaxLayer", "GELU", "GRU", "GRUCell", "GaussianDropout",
    "GaussianNoise", "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D",
    "GlobalAvgPool1D", "GlobalAvgPool2D", "GlobalAvgPool3D", "GlobalMaxPool1D", "GlobalMaxPool2D",
    "GlobalMaxPool3D", "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D",
    "GroupNormalization", "GroupQueryAttention", "GroupedQueryAttention", "HaikuLayer",
    "HashedCrossing", "Hashing", "Identity", "Input", "InputLayer", "InputSpec", "IntegerLookup",
    "JaxLayer", "LSTM", "LSTMCell", "Lambda", "Layer", "LayerNormalization", "LeakyReLU", "Masking",
    "MaxNumBoundingBoxes", "MaxPool1D", "MaxPool2D", "MaxPool3D", "MaxPooling1D", "MaxPooling2D",
    "MaxPooling3D", "Maximum", "MelSpectrogram", "Minimum", "MixUp", "Mosaic", "MultiHeadAttention",
    "Multiply", "Normalization", "PReLU", "Permute", "Pipeline", "RMSNormalization", "RNN",
    "RandAugment", "RandomAffine", "RandomBrightness", "RandomColorDegeneration",
    "RandomColorJitter", "RandomContrast", "RandomCrop", "RandomElasticTransform", "RandomErasing",
    "RandomFlip", "RandomGaussianBlur", "RandomGrayscale", "RandomHSV", "RandomHue", "RandomInvert",
    "RandomPerspective", "RandomPosterization", "RandomRotation", "RandomSaturation",
    "RandomSharpness", "RandomShear", "RandomTranslation", "RandomZoom", "ReLU", "RepeatVector",
    "Rescaling", "Reshape", "Resizing", "ReversibleEmbedding", "STFTSpectrogram", "SeparableConv1D",
    "SeparableConv2D", "SeparableConvolution1D", "SeparableConvolution2D", "SimpleRNN",
    "SimpleRNNCell", "Softmax", "Solarization", "SpatialDropout1D", "SpatialDropout2D",
    "SpatialDropout3D", "SpectralNormalization", "StackedRNNCells", "StringLookup", "Subtract",
    "TFModuleLayer", "TFSMLayer", "TextVectorization", "TimeDistributed", "TorchModuleWrapper",
    "UnitNormalization",
    "UpSampling1D", "UpSampling2D", "UpSampling3D", "Wrapper", "ZeroPadding1D", "ZeroPadding2D",
    "ZeroPadding3D", "add", "average", "concatenate", "deserialize", "dot", "maximum", "minimum",
    "multiply", "serialize", "subtract",
]  # fmt: skip
