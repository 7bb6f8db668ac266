#!/bin/bash
# What components share.
true
