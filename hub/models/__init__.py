"""Architectures, one file each."""

from hub.families import FAMILIES
from hub.models.albert import AlbertBackbone
from hub.models.backbone import Backbone
from hub.models.bert import BertBackbone
from hub.models.clip import CLIPBackbone
from hub.models.clip_towers import CLIPTextEncoder, CLIPVisionEncoder
from hub.models.distil_bert import DistilBertBackbone
from hub.models.electra import ElectraBackbone
from hub.models.gpt2 import GPT2Backbone
from hub.models.opt import OPTBackbone
from hub.models.roberta import RobertaBackbone, XLMRobertaBackbone
from hub.models.safety_checker import StableDiffusionSafetyChecker
from hub.models.t5 import T5Backbone
from hub.models.unet import UNet2DConditionModel
from hub.models.vae import AutoencoderKL

__all__ = [name for name, value in globals().items() if isinstance(value, type)]
