"""Logstash: its configuration, read by a parser of its grammar; each pattern, over lines of each kind; how it is got.

Logstash itself is not to be had here: a package that is *called* so (tests/stand_in.py) stands in for it on hosts.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import pygrok
import pytest
import yaml
from ipaparser.logstash import parse  # REPLACED
from tests import stand_in

from rendering import ROOT, SINGLE
