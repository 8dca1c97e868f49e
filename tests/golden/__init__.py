"""Loss sequences of tiny trainings, kept so that a change of arithmetic, order or noise cannot pass unseen."""
