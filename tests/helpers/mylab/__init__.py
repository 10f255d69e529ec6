"""The package of a lab that knows the documented interfaces only: one module per kind of thing that can be added."""
