"""Extensions of a lab that use documented interfaces only: one module per type of extension."""
