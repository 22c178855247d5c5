"""Multi-scale adversarial prediction (Mathieu, Couprie, LeCun, ICLR 2016)."""
