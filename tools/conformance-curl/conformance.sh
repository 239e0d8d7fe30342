#!/usr/bin/env bash
# Drives a running Egress API with curl, as the documentation's examples do. Prints "ok <step>" for each step.
#
#   LIVEKIT_API_KEY=... LIVEKIT_API_SECRET=... ./conformance.sh URL ROOM
#
# The room must exist; nothing need be published in it.
set -euo pipefail
url=$1 room=$2
key=$LIVEKIT_API_KEY
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
started=()

base64url() { base64 -w0 | tr '+/' '-_' | tr -d '='; }

# token SECRET: a JWT that may record. The secret goes through a file, not through arguments.
token() {
    local head claims
    head=$(printf '{"alg":"HS256","typ":"JWT"}' | base64url)
    claims=$(printf '{"iss":"%s","exp":%d,"video":{"roomRecord":true}}' "$key" $(($(date +%s) + 600)) | base64url)
    printf '%s' "$1" >"$folder/secret"
    local signature
    signature=$(printf '%s.%s' "$head" "$claims" | python3 -c '
import hashlib, hmac, pathlib, sys
secret = pathlib.Path(sys.argv[1]).read_bytes()
sys.stdout.buffer.write(hmac.new(secret, sys.stdin.buffer.read(), hashlib.sha256).digest())' "$folder/secret" |
        base64url)
    printf '%s.%s.%s' "$head" "$claims" "$signature"
}

fail() {
    echo "failed: $*"
    exit 1
}

# call METHOD JSON: sets status and body.
call() {
    status=$(curl -sS -o "$folder/body" -w '%{http_code}' -X POST "$url/twirp/livekit.Egress/$1" \
        -H "@$folder/header" -H 'Content-Type: application/json' -d "$2")
    body=$(cat "$folder/body")
}

has() { [[ $body == *"$1"* ]] || fail "$step: no $1 in $body"; }
lacks() { [[ $body != *"$1"* ]] || fail "$step: $1 in $body"; }
ok() { echo "ok $step"; }

start() {
    step=$1
    call "$2" "$3"
    [ "$status" = 200 ] || fail "$step: $status $body"
    [[ $body =~ \"egress_id\":\"(EG_[0-9A-Za-z]{12})\" ]] || fail "$step: $body"
    started+=("${BASH_REMATCH[1]}")
    has '"status":"EGRESS_STARTING"'
    lacks SECRET
    ok
}

# refused STEP METHOD JSON STATUS CODE TEXT
refused() {
    step=$1
    call "$2" "$3"
    [ "$status" = "$4" ] || fail "$step: $status $body"
    has "$5"
    has "$6"
    ok
}

printf 'Authorization: Bearer %s' "$(token "$LIVEKIT_API_SECRET")" >"$folder/header"

file='"file_outputs":[{"filepath":"conformance/{room_name}-{time}"}]'
stream='"stream_outputs":[{"protocol":"RTMP","urls":["rtmp://127.0.0.1:1/app/aaaSECRETaaa"]}]'
field='request has missing or invalid field: '
page='"url":"http://127.0.0.1:1/"'

start StartWebEgress StartWebEgress "{$page,$file,$stream,\"preset\":\"H264_720P_30\",
    \"webhooks\":[{\"url\":\"http://127.0.0.1:1/\",\"signing_key\":\"$key\"}]}"
start StartRoomCompositeEgress StartRoomCompositeEgress "{\"room_name\":\"$room\",\"layout\":\"grid\",$file,$stream,
    \"segmentOutputs\":[{\"filenamePrefix\":\"conformance/s\",\"livePlaylistName\":\"live.m3u8\"}],
    \"imageOutputs\":[{\"captureInterval\":5,\"width\":320}],
    \"advanced\":{\"width\":640,\"height\":360,\"framerate\":15}}"
start 'StartRoomCompositeEgress of sound' StartRoomCompositeEgress "{\"room_name\":\"$room\",\"audio_only\":true,
    \"audio_mixing\":\"DUAL_CHANNEL_AGENT\",\"file_outputs\":[{\"filepath\":\"x\",\"s3\":{\"bucket\":\"conformance\",
    \"access_key\":\"KEYSECRET\",\"secret\":\"SECRET\",\"region\":\"eu-west-1\"}}]}"
start StartParticipantEgress StartParticipantEgress "{\"room_name\":\"$room\",\"identity\":\"nobody\",$file}"
start StartTrackCompositeEgress StartTrackCompositeEgress \
    "{\"room_name\":\"$room\",\"audio_track_id\":\"TR_a\",\"video_track_id\":\"TR_v\",$file}"
start 'StartTrackEgress to a file' StartTrackEgress \
    "{\"room_name\":\"$room\",\"track_id\":\"TR_x\",\"file\":{\"filepath\":\"conformance/{track_id}\"}}"
start 'StartTrackEgress to a websocket' StartTrackEgress \
    "{\"room_name\":\"$room\",\"track_id\":\"TR_x\",\"websocket_url\":\"ws://127.0.0.1:1/?token=SECRET\"}"
start StartEgress StartEgress "{\"room_name\":\"$room\",\"template\":{\"layout\":\"speaker\"},
    \"preset\":\"H264_720P_30\",\"outputs\":[{\"file\":{\"filepath\":\"conformance/v2-{time}\"}}],\"storage\":{\"s3\":{
    \"bucket\":\"conformance\",\"access_key\":\"KEYSECRET\",\"secret\":\"SECRET\",\"region\":\"eu-west-1\"}}}"
# Fields of protocol v1.54.0.
start 'StartEgress of routes' StartEgress "{\"room_name\":\"$room\",\"media\":{\"audio\":{\"capture_all\":true,
    \"routes\":[{\"participant_kind\":\"AGENT\",\"exclude\":true},
        {\"participantIdentity\":\"ann\",\"trackName\":\"music\",\"channel\":\"AUDIO_CHANNEL_LEFT\"}]}},
    \"outputs\":[{\"file\":{\"filepath\":\"conformance/routes-{time}\"}}]}"
has '"exclude":true'
start 'StartEgress into an MCAP file' StartEgress "{\"room_name\":\"$room\",\"media\":{\"videos\":{
    \"capture_all\":true}},\"outputs\":[{\"file\":{\"file_type\":\"MCAP\"}}]}"
has '"videos":{"capture_all":true'

web=${started[0]} composite=${started[1]}

step=ListEgress
call ListEgress "{\"egress_id\":\"$web\"}"
has "$web"
lacks "$composite"
call ListEgress "{\"room_name\":\"$room\"}"
has "$composite"
lacks "$web"
call ListEgress '{"room_name":"no such room"}'
[ "$body" = '{"items":[],"next_page_token":null}' ] || fail "$step: $body"
call ListEgress '{}'
for id in "${started[@]}"; do has "$id"; done
ok
step=UpdateStream
call UpdateStream "{\"egress_id\":\"$composite\",\"add_output_urls\":[\"rtmp://127.0.0.1:1/app/bbbSECRETbbb\"]}"
has 'rtmp://127.0.0.1:1/app/{bbb...bbb}'
lacks SECRET
ok
step=UpdateLayout
call UpdateLayout "{\"egress_id\":\"$composite\",\"layout\":\"single-speaker-light\"}"
[ "$status" = 200 ] || fail "$step: $status $body"
has '"layout":"single-speaker-light"'
ok
step='UpdateLayout to an unknown layout'
call UpdateLayout "{\"egress_id\":\"$composite\",\"layout\":\"mosaic\"}"
[ "$status" = 200 ] || fail "$step: $status $body"
has '"layout":"mosaic"'
has 'taken for grid'
ok
step='UpdateLayout of a web page'
call UpdateLayout "{\"egress_id\":\"$web\",\"layout\":\"grid\"}"
[ "$status" = 200 ] || fail "$step: $status $body"
has 'the layout has no effect'
ok

refused 'no such room' StartRoomCompositeEgress "{\"room_name\":\"no such room\",$file}" \
    404 not_found 'requested room does not exist'
refused 'no output' StartWebEgress "{$page}" 400 invalid_argument "${field}output"
refused 'bad page' StartWebEgress "{\"url\":\"ftp://127.0.0.1/\",$file}" 400 invalid_argument "${field}web url"
refused 'bad stream' StartWebEgress "{$page,\"stream_outputs\":[{\"protocol\":\"RTMP\",\"urls\":[\"rtmp://host/key\"]}]}" \
    400 invalid_argument 'rtmp urls must be of format'
refused 'no such egress' ListEgress '{"egress_id":"EG_none"}' 404 not_found 'egress does not exist'

for id in "${started[@]}"; do
    step="StopEgress $id"
    call ListEgress "{\"egress_id\":\"$id\",\"active\":true}"
    [[ $body =~ EGRESS_(STARTING|ACTIVE|ENDING) ]] && call StopEgress "{\"egress_id\":\"$id\"}"
    for _ in $(seq 150); do
        call ListEgress "{\"egress_id\":\"$id\"}"
        [[ $body =~ \"status\":\"EGRESS_(COMPLETE|FAILED|ABORTED|LIMIT_REACHED)\" ]] && break
        sleep 0.1
    done
    [[ $body =~ \"status\":\"EGRESS_(COMPLETE|FAILED|ABORTED|LIMIT_REACHED)\" ]] || fail "$step: $body"
    ok
done
refused 'stopped twice' StopEgress "{\"egress_id\":\"$web\"}" 412 failed_precondition 'cannot be stopped'
printf 'Authorization: Bearer %s' "$(token 00000000000000000000000000000000)" >"$folder/header"
refused 'wrong secret' ListEgress '{}' 401 'invalid authorization token' ''
