"""CSMSC, also called BZNSYP or Biaobei: one Mandarin reader."""
