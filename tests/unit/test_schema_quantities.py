"""Quantities mean what Kubernetes' own client says that they mean."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.utils.quantity import parse_quantity

from dyff_dagster.schema.resources import QUANTITY_PATTERN, QuantityError, quantity_value, shown_bytes

NUMBERS = st.from_regex(r"[+-]?([0-9]{1,9}(\.[0-9]{0,6})?|\.[0-9]{1,6})", fullmatch=True)
SUFFIXES = st.sampled_from(["", *"numkMGTPE", *(f"{letter}i" for letter in "KMGTPE")])


@given(NUMBERS, SUFFIXES)
def test_a_quantity_is_what_the_kubernetes_client_reads(number: str, suffix: str) -> None:
    assert quantity_value(number + suffix) == parse_quantity(number + suffix)


@pytest.mark.parametrize(
    ("text", "value"),
    [("2Gi", 2 * 1024**3), ("500M", 500_000_000), ("500m", Decimal("0.5")), ("1e9", 10**9), ("1.5E3", 1500)],
)
def test_the_usual_ones(text: str, value: int | Decimal) -> None:
    assert quantity_value(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "Gi", "2 Gi", "2gi", "2GB", "2K", "1e", "1e1.5", "1e9999", "1" * 31, "two", "2Gi\n", "٣Gi", "nan"],
)
def test_what_is_no_quantity_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(QuantityError) as raised:
        quantity_value(text)
    assert str(raised.value) == (
        "is no quantity; write a number and, if wanted, a suffix of Kubernetes, as 500M, 2Gi or 1e9"
    )


@given(st.from_regex(re.compile(QUANTITY_PATTERN, re.ASCII), fullmatch=True))
def test_what_the_page_takes_for_a_quantity_is_read_or_too_long_to_be_meant(text: str) -> None:
    try:
        quantity_value(text)
    except QuantityError:
        mantissa, _, exponent = text.lower().partition("e")
        assert len(mantissa) > 30 or len(exponent.lstrip("+-")) > 3 or "." in exponent


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"),
        (1023, "1023"),
        (1024, "1Ki"),
        (310 << 20, "310Mi"),
        (2 << 30, "2Gi"),
        (1_342_177_280, "1.25Gi"),
    ],
)
def test_bytes_are_shown_as_people_write_them(number: int, shown: str) -> None:
    assert shown_bytes(number) == shown
