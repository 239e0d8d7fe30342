// Drives a running Egress API with the Twirp clients of github.com/livekit/protocol, protobuf and JSON in
// turn. Prints "ok <step>" for each step; a failure ends it.
//
//	LIVEKIT_API_KEY=... LIVEKIT_API_SECRET=... conformance URL ROOM
//
// The room must exist; nothing need be published in it.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/livekit/protocol/auth"
	"github.com/livekit/protocol/livekit"
	"github.com/twitchtv/twirp"
	"google.golang.org/protobuf/proto"
)

var egressID = regexp.MustCompile(`^EG_[0-9A-Za-z]{12}$`)

type script struct {
	ctx     context.Context
	client  livekit.Egress
	other   livekit.Egress // the same in JSON
	key     string
	room    string
	started []*livekit.EgressInfo
}

func main() {
	if len(os.Args) != 3 {
		fail("usage: conformance URL ROOM")
	}
	url, room := os.Args[1], os.Args[2]
	key, secret := os.Getenv("LIVEKIT_API_KEY"), os.Getenv("LIVEKIT_API_SECRET")
	s := &script{
		ctx:    withToken(key, secret),
		client: livekit.NewEgressProtobufClient(url, http.DefaultClient),
		other:  livekit.NewEgressJSONClient(url, http.DefaultClient),
		key:    key,
		room:   room,
	}
	s.starts()
	s.running()
	s.refusals()
	s.stops()
	s.ctx = withToken(key, strings.Repeat("0", 32))
	// The 401 of a bad token is plain text, which Twirp's own client names after its status.
	_, err := s.client.ListEgress(s.ctx, &livekit.ListEgressRequest{})
	s.refused("wrong secret", twirp.Unauthenticated, "", err)
}

func withToken(key, secret string) context.Context {
	grant := &auth.VideoGrant{RoomRecord: true}
	token, err := auth.NewAccessToken(key, secret).SetVideoGrant(grant).SetValidFor(time.Hour).ToJWT()
	check("token", err)
	header := http.Header{"Authorization": []string{"Bearer " + token}}
	ctx, err := twirp.WithHTTPRequestHeaders(context.Background(), header)
	check("header", err)
	return ctx
}

func (s *script) starts() {
	file := func() []*livekit.EncodedFileOutput {
		return []*livekit.EncodedFileOutput{{Filepath: "conformance/{room_name}-{time}"}}
	}
	streams := func() []*livekit.StreamOutput {
		urls := []string{"rtmp://127.0.0.1:1/app/aaaSECRETaaa"}
		return []*livekit.StreamOutput{{Protocol: livekit.StreamProtocol_RTMP, Urls: urls}}
	}
	s.start("StartWebEgress")(s.client.StartWebEgress(s.ctx, &livekit.WebEgressRequest{
		Url:           "http://127.0.0.1:1/",
		FileOutputs:   file(),
		StreamOutputs: streams(),
		Options:       &livekit.WebEgressRequest_Preset{Preset: livekit.EncodingOptionsPreset_H264_720P_30},
		Webhooks:      []*livekit.WebhookConfig{{Url: "http://127.0.0.1:1/", SigningKey: s.key}},
	}))
	s.start("StartRoomCompositeEgress")(s.other.StartRoomCompositeEgress(s.ctx, &livekit.RoomCompositeEgressRequest{
		RoomName:      s.room,
		Layout:        "grid",
		FileOutputs:   file(),
		StreamOutputs: streams(),
		SegmentOutputs: []*livekit.SegmentedFileOutput{
			{FilenamePrefix: "conformance/s", LivePlaylistName: "live.m3u8"},
		},
		ImageOutputs: []*livekit.ImageOutput{{CaptureInterval: 5, Width: 320}},
		Options: &livekit.RoomCompositeEgressRequest_Advanced{
			Advanced: &livekit.EncodingOptions{Width: 640, Height: 360, Framerate: 15},
		},
	}))
	sound := file()
	sound[0].Output = &livekit.EncodedFileOutput_S3{S3: &livekit.S3Upload{
		Bucket: "conformance", AccessKey: "KEYSECRET", Secret: "SECRET", Region: "eu-west-1",
	}}
	s.start("StartRoomCompositeEgress of sound")(s.client.StartRoomCompositeEgress(s.ctx, &livekit.RoomCompositeEgressRequest{
		RoomName:    s.room,
		AudioOnly:   true,
		AudioMixing: livekit.AudioMixing_DUAL_CHANNEL_AGENT,
		FileOutputs: sound,
	}))
	s.start("StartParticipantEgress")(s.other.StartParticipantEgress(s.ctx, &livekit.ParticipantEgressRequest{
		RoomName: s.room, Identity: "nobody", FileOutputs: file(),
	}))
	s.start("StartTrackCompositeEgress")(s.client.StartTrackCompositeEgress(s.ctx, &livekit.TrackCompositeEgressRequest{
		RoomName: s.room, AudioTrackId: "TR_a", VideoTrackId: "TR_v", FileOutputs: file(),
	}))
	s.start("StartTrackEgress to a file")(s.other.StartTrackEgress(s.ctx, &livekit.TrackEgressRequest{
		RoomName: s.room,
		TrackId:  "TR_x",
		Output:   &livekit.TrackEgressRequest_File{File: &livekit.DirectFileOutput{Filepath: "conformance/{track_id}"}},
	}))
	s.start("StartTrackEgress to a websocket")(s.client.StartTrackEgress(s.ctx, &livekit.TrackEgressRequest{
		RoomName: s.room,
		TrackId:  "TR_x",
		Output:   &livekit.TrackEgressRequest_WebsocketUrl{WebsocketUrl: "ws://127.0.0.1:1/?token=SECRET"},
	}))
	s.start("StartEgress")(s.other.StartEgress(s.ctx, &livekit.StartEgressRequest{
		RoomName: s.room,
		Source:   &livekit.StartEgressRequest_Template{Template: &livekit.TemplateSource{Layout: "speaker"}},
		Encoding: &livekit.StartEgressRequest_Preset{Preset: livekit.EncodingOptionsPreset_H264_720P_30},
		Outputs: []*livekit.Output{
			{Config: &livekit.Output_File{File: &livekit.FileOutput{Filepath: "conformance/v2-{time}"}}},
		},
		Storage: &livekit.StorageConfig{Provider: &livekit.StorageConfig_S3{S3: &livekit.S3Upload{
			Bucket: "conformance", AccessKey: "KEYSECRET", Secret: "SECRET", Region: "eu-west-1",
		}}},
	}))
	agents, music := &livekit.AudioRoute_ParticipantKind{ParticipantKind: livekit.ParticipantInfo_AGENT}, "music"
	ann := &livekit.AudioRoute_ParticipantIdentity{ParticipantIdentity: "ann"}
	routes := []*livekit.AudioRoute{
		{Match: agents, Exclude: true},
		{Match: ann, TrackName: music, Channel: livekit.AudioChannel_AUDIO_CHANNEL_LEFT},
	}
	audio := &livekit.AudioConfig{CaptureAll: true, Routes: routes}
	info, err := s.client.StartEgress(s.ctx, &livekit.StartEgressRequest{
		RoomName: s.room,
		Source:   &livekit.StartEgressRequest_Media{Media: &livekit.MediaSource{Audio: audio}},
		Outputs: []*livekit.Output{
			{Config: &livekit.Output_File{File: &livekit.FileOutput{Filepath: "conformance/routes-{time}"}}},
		},
	})
	s.start("StartEgress of routes")(info, err)
	expect("routes as asked", proto.Equal(info.GetEgress().GetMedia().GetAudio(), audio))
	info, err = s.other.StartEgress(s.ctx, &livekit.StartEgressRequest{
		RoomName: s.room,
		Source: &livekit.StartEgressRequest_Media{Media: &livekit.MediaSource{
			Video: &livekit.MediaSource_Videos{Videos: &livekit.VideoConfig{CaptureAll: true}},
		}},
		Outputs: []*livekit.Output{{Config: &livekit.Output_File{File: &livekit.FileOutput{
			FileType: livekit.EncodedFileType_MCAP,
		}}}},
	})
	s.start("StartEgress into an MCAP file")(info, err)
	expect("videos as asked", info.GetEgress().GetMedia().GetVideos().GetCaptureAll())
}

func (s *script) running() {
	web, composite := s.started[0].EgressId, s.started[1].EgressId
	ids := func(request *livekit.ListEgressRequest) []string {
		found, err := s.client.ListEgress(s.ctx, request)
		check("ListEgress", err)
		var ids []string
		for _, item := range found.Items {
			ids = append(ids, item.EgressId)
		}
		return ids
	}
	one := ids(&livekit.ListEgressRequest{EgressId: web})
	inRoom := ids(&livekit.ListEgressRequest{RoomName: s.room})
	all := ids(&livekit.ListEgressRequest{})
	expect("list by id", len(one) == 1 && one[0] == web)
	expect("list by room", slices.Contains(inRoom, composite) && !slices.Contains(inRoom, web))
	expect("list of no room", len(ids(&livekit.ListEgressRequest{RoomName: "no such room"})) == 0)
	for _, info := range s.started {
		expect("list all", slices.Contains(all, info.EgressId))
	}
	ok("ListEgress")
	info, err := s.other.UpdateStream(s.ctx, &livekit.UpdateStreamRequest{
		EgressId: composite, AddOutputUrls: []string{"rtmp://127.0.0.1:1/app/bbbSECRETbbb"},
	})
	check("UpdateStream", err)
	expect("added stream", slices.ContainsFunc(info.StreamResults, func(result *livekit.StreamInfo) bool {
		return result.Url == "rtmp://127.0.0.1:1/app/{bbb...bbb}"
	}))
	ok("UpdateStream")
	info, err = s.client.UpdateLayout(s.ctx, &livekit.UpdateLayoutRequest{
		EgressId: composite, Layout: "single-speaker-light",
	})
	check("UpdateLayout", err)
	expect("changed layout", info.GetRoomComposite().GetLayout() == "single-speaker-light")
	ok("UpdateLayout")
	info, err = s.client.UpdateLayout(s.ctx, &livekit.UpdateLayoutRequest{EgressId: composite, Layout: "mosaic"})
	check("UpdateLayout to an unknown layout", err)
	expect("layout as asked", info.GetRoomComposite().GetLayout() == "mosaic")
	expect("notice of the nearest", strings.Contains(info.Details, "taken for grid"))
	ok("UpdateLayout to an unknown layout")
	info, err = s.client.UpdateLayout(s.ctx, &livekit.UpdateLayoutRequest{EgressId: web, Layout: "grid"})
	check("UpdateLayout of a web page", err)
	expect("notice of no effect", strings.Contains(info.Details, "the layout has no effect"))
	ok("UpdateLayout of a web page")
}

func (s *script) refusals() {
	file := []*livekit.EncodedFileOutput{{}}
	field := "request has missing or invalid field: "

	_, err := s.client.StartRoomCompositeEgress(s.ctx, &livekit.RoomCompositeEgressRequest{
		RoomName: "no such room", FileOutputs: file,
	})
	s.refused("no such room", twirp.NotFound, "requested room does not exist", err)
	_, err = s.other.StartWebEgress(s.ctx, &livekit.WebEgressRequest{Url: "http://127.0.0.1:1/"})
	s.refused("no output", twirp.InvalidArgument, field+"output", err)
	_, err = s.client.StartWebEgress(s.ctx, &livekit.WebEgressRequest{Url: "ftp://127.0.0.1/", FileOutputs: file})
	s.refused("bad page", twirp.InvalidArgument, field+"web url", err)
	_, err = s.client.StartWebEgress(s.ctx, &livekit.WebEgressRequest{
		Url:           "http://127.0.0.1:1/",
		StreamOutputs: []*livekit.StreamOutput{{Protocol: livekit.StreamProtocol_RTMP, Urls: []string{"rtmp://host/key"}}},
	})
	s.refused("bad stream", twirp.InvalidArgument, "rtmp urls must be of format", err)
	_, err = s.client.ListEgress(s.ctx, &livekit.ListEgressRequest{EgressId: "EG_none"})
	s.refused("no such egress", twirp.NotFound, "egress does not exist", err)
}

func (s *script) stops() {
	for _, info := range s.started {
		if s.get(info.EgressId).Status < livekit.EgressStatus_EGRESS_COMPLETE {
			_, err := s.client.StopEgress(s.ctx, &livekit.StopEgressRequest{EgressId: info.EgressId})
			check("StopEgress", err)
		}
		deadline := time.Now().Add(15 * time.Second)
		for s.get(info.EgressId).Status < livekit.EgressStatus_EGRESS_COMPLETE {
			expect("the end within 15 s", time.Now().Before(deadline))
			time.Sleep(100 * time.Millisecond)
		}
		ok("StopEgress " + info.EgressId)
	}
	_, err := s.other.StopEgress(s.ctx, &livekit.StopEgressRequest{EgressId: s.started[0].EgressId})
	s.refused("stopped twice", twirp.FailedPrecondition, "cannot be stopped", err)
}

func (s *script) get(id string) *livekit.EgressInfo {
	found, err := s.client.ListEgress(s.ctx, &livekit.ListEgressRequest{EgressId: id})
	check("ListEgress", err)
	return found.Items[0]
}

// start takes the two results of a Start call.
func (s *script) start(name string) func(*livekit.EgressInfo, error) {
	return func(info *livekit.EgressInfo, err error) {
		check(name, err)
		expect(name+": id "+info.EgressId, egressID.MatchString(info.EgressId))
		expect(name+": status", info.Status == livekit.EgressStatus_EGRESS_STARTING)
		expect(name+": started_at", info.StartedAt > 0)
		expect(name+": a secret came back", !strings.Contains(info.String(), "SECRET"))
		s.started = append(s.started, info)
		ok(name)
	}
}

func (s *script) refused(name string, code twirp.ErrorCode, message string, err error) {
	refusal, isTwirp := err.(twirp.Error)
	if !isTwirp || refusal.Code() != code || !strings.Contains(refusal.Msg(), message) {
		fail(fmt.Sprintf("%s: want %s %q, got %v", name, code, message, err))
	}
	ok(name)
}

func check(what string, err error) {
	if err != nil {
		fail(what + ": " + err.Error())
	}
}

func expect(what string, holds bool) {
	if !holds {
		fail(what)
	}
}

func ok(step string) {
	fmt.Println("ok " + step)
}

func fail(why string) {
	fmt.Println("failed: " + why)
	os.Exit(1)
}
