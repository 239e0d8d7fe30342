"""A web page as a source: Chromium on a display and a sound server of its own, filmed and listened to.

`browser` brings the processes up, `page` drives the page, `video_capture` and `audio_capture` turn what it
shows and plays into frames on the recording's timeline, `source` is the Source made of them.
"""
