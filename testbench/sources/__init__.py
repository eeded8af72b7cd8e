"""Where a dataset comes from, and how its rows become an experiment; `testbench.sources.dataset` is the way in.

text -> Location -> DatasetFile -> Table of Rows -> Step -> Scenario -> Experiment
        location    download       formats          columns dataset    dataset
"""
