#!/bin/bash
# What components share.
