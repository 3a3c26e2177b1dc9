"""`insn`: instructions per packet that a box in the middle forwards, in an emulated machine."""
