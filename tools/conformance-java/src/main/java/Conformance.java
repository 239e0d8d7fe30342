import io.livekit.server.AccessToken;
import io.livekit.server.AudioMixing;
import io.livekit.server.EgressServiceClient;
import io.livekit.server.EncodedOutputs;
import io.livekit.server.RoomRecord;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import livekit.LivekitEgress.DirectFileOutput;
import livekit.LivekitEgress.EgressInfo;
import livekit.LivekitEgress.EgressStatus;
import livekit.LivekitEgress.EncodedFileOutput;
import livekit.LivekitEgress.EncodingOptions;
import livekit.LivekitEgress.EncodingOptionsPreset;
import livekit.LivekitEgress.ImageOutput;
import livekit.LivekitEgress.S3Upload;
import livekit.LivekitEgress.SegmentedFileOutput;
import livekit.LivekitEgress.StreamOutput;
import livekit.LivekitEgress.StreamProtocol;
import retrofit2.Call;
import retrofit2.Response;

/**
 * Drives a running Egress API with LiveKit's Java SDK. Prints "ok step" for each step; a failure ends it.
 *
 * <p>LIVEKIT_API_KEY=... LIVEKIT_API_SECRET=... java Conformance URL ROOM. The room must exist; nothing need be
 * published in it. The SDK has no StartEgress (0.13.0): what that alone takes is sent as JSON.
 */
public final class Conformance {
  private static final String FIELD = "request has missing or invalid field: ";

  private final EgressServiceClient client;
  private final String room;
  private final List<EgressInfo> started = new ArrayList<>();

  private Conformance(EgressServiceClient client, String room) {
    this.client = client;
    this.room = room;
  }

  public static void main(String[] args) throws Exception {
    String key = System.getenv("LIVEKIT_API_KEY");
    String secret = System.getenv("LIVEKIT_API_SECRET");
    Conformance script = new Conformance(EgressServiceClient.createClient(args[0], key, secret), args[1]);
    script.starts();
    script.startsByJson(args[0], key, secret);
    script.running();
    script.refusals();
    script.stops();
    EgressServiceClient stranger = EgressServiceClient.createClient(args[0], key, "0".repeat(32));
    refused("wrong secret", 401, "", "invalid authorization token", stranger.listEgress(null, null, null));
    System.exit(0);
  }

  private void starts() throws IOException {
    start(
        "StartWebEgress",
        client.startWebEgress(
            "http://127.0.0.1:1/",
            new EncodedOutputs(file().build(), stream(), null, null),
            EncodingOptionsPreset.H264_720P_30,
            null,
            false,
            false,
            false));
    SegmentedFileOutput segments =
        SegmentedFileOutput.newBuilder()
            .setFilenamePrefix("conformance/s")
            .setLivePlaylistName("live.m3u8")
            .build();
    ImageOutput images = ImageOutput.newBuilder().setCaptureInterval(5).setWidth(320).build();
    EncodingOptions encoding =
        EncodingOptions.newBuilder().setWidth(640).setHeight(360).setFramerate(15).build();
    start(
        "StartRoomCompositeEgress",
        client.startRoomCompositeEgress(
            room,
            new EncodedOutputs(file().build(), stream(), segments, images),
            "grid",
            null,
            encoding,
            false,
            false,
            "",
            AudioMixing.DEFAULT_MIXING));
    S3Upload s3 =
        S3Upload.newBuilder()
            .setBucket("conformance")
            .setAccessKey("KEYSECRET")
            .setSecret("SECRET")
            .setRegion("eu-west-1")
            .build();
    start(
        "StartRoomCompositeEgress of sound",
        client.startRoomCompositeEgress(
            room, file().setS3(s3).build(), "", null, null, true, false, "", AudioMixing.DUAL_CHANNEL_AGENT));
    start(
        "StartParticipantEgress",
        client.startParticipantEgress(
            room, "nobody", new EncodedOutputs(file().build(), null, null, null), false, null, null));
    start(
        "StartTrackCompositeEgress",
        client.startTrackCompositeEgress(room, file().build(), "TR_a", "TR_v", null, null));
    DirectFileOutput direct = DirectFileOutput.newBuilder().setFilepath("conformance/{track_id}").build();
    start("StartTrackEgress to a file", client.startTrackEgress(room, direct, "TR_x"));
    start(
        "StartTrackEgress to a websocket",
        client.startTrackEgress(room, "ws://127.0.0.1:1/?token=SECRET", "TR_x"));
  }

  private void startsByJson(String url, String key, String secret) throws Exception {
    AccessToken token = new AccessToken(key, secret);
    token.addGrants(new RoomRecord(true));
    HttpRequest.Builder request =
        HttpRequest.newBuilder(URI.create(url + "/twirp/livekit.Egress/StartEgress"))
            .header("Authorization", "Bearer " + token.toJwt())
            .header("Content-Type", "application/json");
    HttpClient http = HttpClient.newHttpClient();
    String routes =
        """
        {"roomName": "%s", "media": {"audio": {"captureAll": true, "routes": [
          {"participantKind": "AGENT", "exclude": true},
          {"participantIdentity": "ann", "trackName": "music", "channel": "AUDIO_CHANNEL_LEFT"}]}},
         "outputs": [{"file": {"filepath": "conformance/routes-{time}"}}]}
        """;
    HttpResponse<String> answer = http.send(json(request, routes), HttpResponse.BodyHandlers.ofString());
    expect("routes: " + answer.body(), answer.statusCode() == 200 && answer.body().contains("\"exclude\":true"));
    Matcher id = Pattern.compile("\"egress_id\":\"(EG_[0-9A-Za-z]{12})\"").matcher(answer.body());
    expect("id of routes", id.find());
    started.add(EgressInfo.newBuilder().setEgressId(id.group(1)).build());
    ok("StartEgress of routes");
    String mcap =
        """
        {"roomName": "%s", "media": {"videos": {"captureAll": true}},
         "outputs": [{"file": {"fileType": "MCAP"}}]}
        """;
    answer = http.send(json(request, mcap), HttpResponse.BodyHandlers.ofString());
    expect(
        "MCAP: " + answer.body(),
        answer.statusCode() == 200 && answer.body().contains("\"videos\":{\"capture_all\":true"));
    id = Pattern.compile("\"egress_id\":\"(EG_[0-9A-Za-z]{12})\"").matcher(answer.body());
    expect("id of an MCAP", id.find());
    started.add(EgressInfo.newBuilder().setEgressId(id.group(1)).build());
    ok("StartEgress into an MCAP file");
  }

  private HttpRequest json(HttpRequest.Builder request, String body) {
    return request.POST(HttpRequest.BodyPublishers.ofString(body.formatted(room))).build();
  }

  private void running() throws IOException {
    String web = started.get(0).getEgressId();
    String composite = started.get(1).getEgressId();
    expect("list by id", ids(null, web).equals(List.of(web)));
    List<String> inRoom = ids(room, null);
    expect("list by room", inRoom.contains(composite) && !inRoom.contains(web));
    expect("list of no room", ids("no such room", null).isEmpty());
    List<String> all = ids(null, null);
    for (EgressInfo info : started) {
      expect("list all", all.contains(info.getEgressId()));
    }
    ok("ListEgress");
    List<String> added = List.of("rtmp://127.0.0.1:1/app/bbbSECRETbbb");
    EgressInfo info = body("UpdateStream", client.updateStream(composite, added, List.of()));
    expect(
        "added stream",
        info.getStreamResultsList().stream()
            .anyMatch(result -> result.getUrl().equals("rtmp://127.0.0.1:1/app/{bbb...bbb}")));
    ok("UpdateStream");
    EgressInfo changed = body("UpdateLayout", client.updateLayout(composite, "single-speaker-light"));
    expect("changed layout", changed.getRoomComposite().getLayout().equals("single-speaker-light"));
    ok("UpdateLayout");
    String unknown = "UpdateLayout to an unknown layout";
    EgressInfo nearest = body(unknown, client.updateLayout(composite, "mosaic"));
    expect("layout as asked", nearest.getRoomComposite().getLayout().equals("mosaic"));
    expect("notice of the nearest", nearest.getDetails().contains("taken for grid"));
    ok(unknown);
    String page = "UpdateLayout of a web page";
    EgressInfo same = body(page, client.updateLayout(web, "grid"));
    expect("notice of no effect", same.getDetails().contains("the layout has no effect"));
    ok(page);
  }

  private void refusals() throws IOException {
    refused(
        "no such room",
        404,
        "not_found",
        "requested room does not exist",
        client.startRoomCompositeEgress("no such room", file().build()));
    refused(
        "no output",
        400,
        "invalid_argument",
        FIELD + "output",
        web("http://127.0.0.1:1/", new EncodedOutputs(null, null, null, null)));
    refused(
        "bad page",
        400,
        "invalid_argument",
        FIELD + "web url",
        web("ftp://127.0.0.1/", new EncodedOutputs(file().build(), null, null, null)));
    StreamOutput bad =
        StreamOutput.newBuilder().setProtocol(StreamProtocol.RTMP).addUrls("rtmp://host/key").build();
    refused(
        "bad stream",
        400,
        "invalid_argument",
        "rtmp urls must be of format",
        web("http://127.0.0.1:1/", new EncodedOutputs(null, bad, null, null)));
    refused(
        "no such egress", 404, "not_found", "egress does not exist", client.listEgress(null, "EG_none", null));
  }

  private void stops() throws Exception {
    for (EgressInfo info : started) {
      String id = info.getEgressId();
      if (!ended(id)) {
        body("StopEgress", client.stopEgress(id));
      }
      for (int attempt = 0; !ended(id); attempt++) {
        expect("the end within 15 s", attempt < 150);
        Thread.sleep(100);
      }
      ok("StopEgress " + id);
    }
    refused(
        "stopped twice",
        412,
        "failed_precondition",
        "cannot be stopped",
        client.stopEgress(started.get(0).getEgressId()));
  }

  private Call<EgressInfo> web(String url, EncodedOutputs outputs) {
    return client.startWebEgress(url, outputs, null, null, false, false, false);
  }

  private boolean ended(String id) throws IOException {
    EgressInfo info = body("ListEgress", client.listEgress(null, id, null)).get(0);
    return info.getStatusValue() >= EgressStatus.EGRESS_COMPLETE_VALUE;
  }

  private List<String> ids(String inRoom, String id) throws IOException {
    return body("ListEgress", client.listEgress(inRoom, id, null)).stream()
        .map(EgressInfo::getEgressId)
        .toList();
  }

  private void start(String name, Call<EgressInfo> call) throws IOException {
    EgressInfo info = body(name, call);
    expect(name + ": id", info.getEgressId().matches("EG_[0-9A-Za-z]{12}"));
    expect(name + ": status", info.getStatus() == EgressStatus.EGRESS_STARTING);
    expect(name + ": started_at", info.getStartedAt() > 0);
    expect(name + ": a secret came back", !info.toString().contains("SECRET"));
    started.add(info);
    ok(name);
  }

  private static void refused(String name, int status, String code, String message, Call<?> call)
      throws IOException {
    Response<?> response = call.execute();
    String error = response.errorBody() == null ? "" : response.errorBody().string();
    expect(
        name + ": " + response.code() + " " + error,
        response.code() == status && error.contains(code) && error.contains(message));
    ok(name);
  }

  private static <T> T body(String name, Call<T> call) throws IOException {
    Response<T> response = call.execute();
    expect(
        name + ": " + response.code() + " " + (response.isSuccessful() ? "" : response.errorBody().string()),
        response.isSuccessful());
    return response.body();
  }

  private static EncodedFileOutput.Builder file() {
    return EncodedFileOutput.newBuilder().setFilepath("conformance/{room_name}-{time}");
  }

  private static StreamOutput stream() {
    return StreamOutput.newBuilder()
        .setProtocol(StreamProtocol.RTMP)
        .addUrls("rtmp://127.0.0.1:1/app/aaaSECRETaaa")
        .build();
  }

  private static void expect(String what, boolean holds) {
    if (!holds) {
      System.out.println("failed: " + what);
      System.exit(1);
    }
  }

  private static void ok(String step) {
    System.out.println("ok " + step);
  }
}
