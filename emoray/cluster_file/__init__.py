"""Checking a cluster file for `ray up` without a network: all that is wrong with it, before a machine is paid for."""

from emoray.cluster_file.check import Checked as Checked
from emoray.cluster_file.check import check as check
