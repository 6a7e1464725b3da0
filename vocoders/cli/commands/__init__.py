"""The commands of ``vocoders``, in the order of the help: a file each, with ``add_parser``."""

from vocoders.cli.commands import bench, config, export, identify, importing, info, listing, serve

COMMANDS = (info, listing, identify, config, importing, export, serve, bench)
