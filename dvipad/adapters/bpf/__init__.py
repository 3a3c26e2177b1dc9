"""eBPF programs and maps, loaded through libbpf."""
