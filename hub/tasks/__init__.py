"""Tasks: preprocessing, a backbone and a head."""

from hub.tasks.causal_lm import CausalLM, GPT2CausalLM, OPTCausalLM
from hub.tasks.masked_lm import (
    AlbertMaskedLM,
    BertMaskedLM,
    DistilBertMaskedLM,
    ElectraMaskedLM,
    MaskedLM,
    RobertaMaskedLM,
    XLMRobertaMaskedLM,
)
from hub.tasks.seq2seq_lm import Seq2SeqLM, T5Seq2SeqLM
from hub.tasks.stable_diffusion import StableDiffusion
from hub.tasks.task import Task
from hub.tasks.text_classifier import (
    AlbertTextClassifier,
    BertClassifier,
    BertTextClassifier,
    DistilBertTextClassifier,
    ElectraTextClassifier,
    RobertaTextClassifier,
    TextClassifier,
    XLMRobertaTextClassifier,
)
from hub.tasks.text_embedder import (
    AlbertTextEmbedder,
    BertTextEmbedder,
    DistilBertTextEmbedder,
    ElectraTextEmbedder,
    RobertaTextEmbedder,
    T5TextEmbedder,
    TextEmbedder,
    XLMRobertaTextEmbedder,
)
from hub.tasks.text_to_image import (
    ImageToImage,
    Inpaint,
    StableDiffusionImageToImage,
    StableDiffusionInpaint,
    StableDiffusionTextToImage,
    TextToImage,
)
from hub.tasks.token_classifier import (
    AlbertTokenClassifier,
    BertTokenClassifier,
    DistilBertTokenClassifier,
    ElectraTokenClassifier,
    RobertaTokenClassifier,
    TokenClassifier,
    XLMRobertaTokenClassifier,
)
from hub.tasks.zero_shot_classifier import CLIPZeroShotClassifier, ZeroShotImageClassifier

__all__ = [name for name, value in globals().items() if isinstance(value, type)]
