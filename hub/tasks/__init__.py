"""Tasks: preprocessing, a backbone and a head."""

from hub.tasks.masked_lm import BertMaskedLM, MaskedLM
from hub.tasks.task import Task
from hub.tasks.text_classifier import BertClassifier, BertTextClassifier, TextClassifier
from hub.tasks.text_embedder import BertTextEmbedder, TextEmbedder
