"""Columns of ids become dictionaries of text, and columns of numbers become numbers.

In: a column as the file has it. Out: int32 codes into distinct texts, null where missing or blank; 007 stays 007.
"""

# Arrow makes its compute functions at import, where a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ID_TYPE = pa.dictionary(pa.int32(), pa.string())
_FLOAT = r"^-?\d{1,18}(\.\d+)?([eE]-?\d{1,2})?$"


def is_id_type(kind: pa.DataType) -> bool:
    """Return whether a column of this type can hold ids: text, numbers, true and false, or a dictionary of these.

    Of decimals only those without a fraction, so that 7.00 and 7 cannot become two ids.
    """
    if pa.types.is_dictionary(kind):
        return is_id_type(kind.value_type)
    if pa.types.is_decimal(kind):
        return kind.scale == 0
    return is_encoded_text(kind) or any(
        check(kind)
        for check in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_integer,
            pa.types.is_floating,
            pa.types.is_boolean,
            pa.types.is_null,
        )
    )


def is_encoded_text(kind: pa.DataType) -> bool:
    """Return whether a type holds text in another form than `pa.string`: as views, or as bytes that may be UTF-8."""
    if pa.types.is_dictionary(kind):
        return is_encoded_text(kind.value_type)
    return any(
        check(kind)
        for check in (pa.types.is_string_view, pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    )


def decode_text(values: pa.Array) -> pa.Array:
    """Return a column of encoded text as `pa.string`.

    Raises:
        pa.ArrowInvalid: A cell is not UTF-8.
    """
    if pa.types.is_dictionary(values.type):
        return pa.DictionaryArray.from_arrays(values.indices, decode_text(values.dictionary))
    return values.cast(pa.string())


def encode_ids(values: pa.Array) -> pa.DictionaryArray:
    """Return a column of ids as codes into distinct texts; blank cells are null, every other text stays as it is."""
    if pa.types.is_null(values.type):
        return no_ids(len(values))
    given = pa.types.is_dictionary(values.type)
    encoded = values if given else values.dictionary_encode()
    texts = _texts(encoded.dictionary)
    codes = encoded.indices.cast(pa.int32())
    # A dictionary from a file may hold a text twice; so may floats, whose -0.0 and 0.0 are one id.
    again = texts.dictionary_encode()
    if len(again.dictionary) != len(texts) or texts.null_count:
        codes, texts = again.indices.take(codes), again.dictionary
    return _without_blanks(codes, texts)


def no_ids(num_rows: int) -> pa.DictionaryArray:
    """Return a column in which every id is missing."""
    return pa.DictionaryArray.from_arrays(pa.nulls(num_rows, pa.int32()), pa.array([], pa.string()))


def to_numbers(values: pa.Array) -> np.ndarray:
    """Return a column of numbers, or of text that holds numbers: (R,) float64, NaN where there is none."""
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        return pc.fill_null(values.cast(pa.float64(), safe=False), np.nan).to_numpy(zero_copy_only=False)
    codes = encode_ids(values)
    texts = pc.utf8_trim_whitespace(codes.dictionary)
    texts = pc.if_else(pc.match_substring_regex(texts, _FLOAT), texts, None)
    return pc.fill_null(texts.cast(pa.float64()).take(codes.indices), np.nan).to_numpy(zero_copy_only=False)


def _texts(values: pa.Array) -> pa.Array:
    """Return distinct ids as text; 7.0 is the id 7, as columns of integers with gaps come out of pandas as floats."""
    if not pa.types.is_floating(values.type):
        return values.cast(pa.string())
    values = pc.if_else(pc.is_nan(values), None, values.cast(pa.float64()))
    whole = pc.and_(pc.equal(pc.trunc(values), values), pc.less(pc.abs(values), 2.0**53))
    integers = pc.if_else(whole, values, None).cast(pa.int64()).cast(pa.string())
    return pc.coalesce(integers, values.cast(pa.string()))


def _without_blanks(codes: pa.Array, texts: pa.Array) -> pa.DictionaryArray:
    blank = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(texts), ""), True)
    if pc.any(blank, min_count=0).as_py():
        kept = pc.invert(blank).to_numpy(zero_copy_only=False)
        new = pa.array(np.cumsum(kept, dtype=np.int32) - 1, mask=~kept)
        codes, texts = new.take(codes), texts.filter(pa.array(kept))
    return pa.DictionaryArray.from_arrays(codes, texts)
