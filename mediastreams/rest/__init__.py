"""Twilio's REST API: the commands that point a number at this server, and that place a call.

Source: https://www.twilio.com/docs/usage/api
"""
