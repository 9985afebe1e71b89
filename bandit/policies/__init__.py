"""Policies: one way of choosing per file, all under the contract of `base`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from bandit.policies.base import Policy
from bandit.policies.calibrated_diag_linucb import CalibratedDiagLinUCB
from bandit.policies.diag_linucb import DiagLinUCB
from bandit.policies.diag_linucb_prior import DiagLinUCBPrior
from bandit.policies.greedy import Greedy
from bandit.policies.popular import Popular
from bandit.policies.random import Random

_INSTANCES: tuple[Policy, ...] = (
    DiagLinUCB(),
    DiagLinUCBPrior(),
    CalibratedDiagLinUCB(),
    Greedy(),
    Popular(),
    Random(),
)

POLICIES: Mapping[str, Policy] = MappingProxyType({policy.name: policy for policy in _INSTANCES})
"""Every policy by name, with its default parameters."""

DEFAULT_POLICY = "calibrated_diag_linucb"
