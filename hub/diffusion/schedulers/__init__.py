"""Schedulers of diffusion: pure functions over a table of timesteps."""

from hub.diffusion.schedulers.scheduler import SCHEDULERS, Plan, Scheduler

__all__ = ["SCHEDULERS", "Plan", "Scheduler"]
