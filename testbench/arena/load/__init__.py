"""Load tests with an open loop: requests arrive on schedule, however slow the answers are.

    rate profile -> arrivals -> generator -> samples -> measures -> limits -> conclusion

A closed loop sends the next request when the last one is answered, so that a system which stalls is asked less and
looks better than it is. Here the clock decides, and a latency counts from the moment at which the request was due.
"""
