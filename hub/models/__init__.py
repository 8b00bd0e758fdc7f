"""Architectures, one file each."""

from hub.models.backbone import FAMILIES, Backbone
from hub.models.bert import BertBackbone
