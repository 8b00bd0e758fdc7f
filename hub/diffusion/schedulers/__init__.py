"""Noise schedulers (samplers) of diffusion models: sampling methods as tables."""

from hub.diffusion.schedulers.scheduler import SCHEDULERS, Plan, Scheduler

__all__ = ["SCHEDULERS", "Plan", "Scheduler"]
