"""Synthetic cervical slides with known truth."""

from napari_hspnet.phantom.domains import DOMAINS, Domain, domain
from napari_hspnet.phantom.fields import domain_field
from napari_hspnet.phantom.layout import PhantomSpec, make_layout, sample_spec, truth_block
from napari_hspnet.phantom.oracle import ORACLE_COLOURS, ORACLE_GLASS, oracle_lookup
from napari_hspnet.phantom.slide import PHANTOM_MARK, PhantomResult, write_phantom
from napari_hspnet.phantom.tissue import Field, phantom_field
from napari_hspnet.phantom.version import PHANTOM_VERSION, generator_hash

__all__ = [
    "DOMAINS",
    "ORACLE_COLOURS",
    "ORACLE_GLASS",
    "PHANTOM_MARK",
    "PHANTOM_VERSION",
    "Domain",
    "Field",
    "PhantomResult",
    "PhantomSpec",
    "domain",
    "domain_field",
    "generator_hash",
    "make_layout",
    "oracle_lookup",
    "phantom_field",
    "sample_spec",
    "truth_block",
    "write_phantom",
]
