"""Hosted models behind an OpenAI-compatible endpoint. Needs the extra ``openai`` once something is asked."""

from evalsuite.api.answering import HostedAnswerer, check
from evalsuite.api.endpoint import HostedOptions, endpoint_url

__all__ = ["HostedAnswerer", "HostedOptions", "check", "endpoint_url"]
