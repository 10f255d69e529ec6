import numpy as np
import pytest

from detector.synthetic.scene import Scene, SceneObject, _find_rest, _plan_camera, _Stage, make_scene
from detector.synthetic.sprites import CAR, PEDESTRIAN

HEIGHT, WIDTH = 120, 160


def box_object(x, y, *, depth=0.5, size=(4, 6), light=0.9, first=0):
    """A uniform box at the positions `x`, `y`."""
    sprite = np.ones((1, 2, *size), np.float32)
    sprite[:, 0] = light
    x, y = np.asarray(x, float), np.asarray(y, float)
    return SceneObject(1, 0, sprite, depth, first, x, y, np.zeros(len(x)), False)


def box_scene(*objects, moments=1):
    return Scene(20, 30, np.full((20, 60), 0.5, np.float32), np.zeros(moments), objects)


def test_some_objects_rest_and_fall_silent():
    """Where an object rests with the camera, nothing is left but noise; its label stays."""
    scenes = [make_scene(np.random.default_rng(seed), 2001, 200, HEIGHT, WIDTH) for seed in range(12)]
    objects = [thing for scene in scenes for thing in scene.objects]
    assert 0.2 < np.mean([thing.stops for thing in objects]) < 0.45

    scene, thing = next((s, o) for s in scenes for o in s.objects if o.stops)
    still = np.flatnonzero((np.diff(thing.x) == 0) & (np.diff(thing.phase) == 0))
    assert 240 <= len(still) <= 350  # 1.2 to 1.7 s at 200 Hz, and a little at either end
    alone = Scene(HEIGHT, WIDTH, scene.background, scene.pan, (thing,))
    first, last = thing.first + still[0], thing.first + still[-1]
    assert (alone.render(first) == alone.render(last)).all()
    assert alone.visible_fractions(last)[0] > 0.5
    assert (alone.render(thing.first + 1) != alone.render(first)).any()


def test_object_between_pixels():
    image = box_scene(box_object([10.25], [5.0])).render(0)
    np.testing.assert_allclose(image[5, 9:18], [0.5, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9, 0.6, 0.5], rtol=1e-6)
    np.testing.assert_array_equal(image[4], 0.5)
    np.testing.assert_array_equal(image[9], 0.5)


def test_nearer_object_hides_the_farther():
    far, near = box_object([10.0], [5.0], light=0.2), box_object([13.0], [5.0], light=0.8, depth=0.9)
    scene = box_scene(far, near)
    np.testing.assert_allclose(scene.render(0)[6, 10:19], [0.2] * 3 + [0.8] * 6, rtol=1e-6)
    assert scene.visible_fractions(0) == {0: 0.5, 1: 1.0}


def test_object_outside_the_frame():
    scene = box_scene(box_object([-3.0, -20.0], [5.0, 5.0]), moments=3)
    assert scene.visible_fractions(0) == {0: 0.5}
    assert scene.visible_fractions(1) == {0: 0.0}
    assert scene.visible_fractions(2) == {}  # gone
    np.testing.assert_array_equal(scene.render(1), 0.5)


def test_background_pans_and_repeats():
    background = np.tile(np.arange(1, 61, dtype=np.float32), (20, 1))
    scene = Scene(20, 30, background, np.array([0.0, 0.5, -1.0, 45.0]), ())
    np.testing.assert_array_equal(scene.render(0)[0], np.arange(1, 31))
    np.testing.assert_array_equal(scene.render(1)[0], np.arange(1, 31) + 0.5)
    np.testing.assert_array_equal(scene.render(2)[0], [60, *range(1, 30)])
    np.testing.assert_array_equal(scene.render(3)[0], [*range(46, 61), *range(1, 16)])


def test_the_camera_and_the_objects_of_a_seed():
    """Published results were measured on such scenes, so they must not change unnoticed."""
    camera = _plan_camera(np.random.default_rng(1), 4000, 200, HEIGHT, WIDTH)
    assert camera.rests == ((0, 514), (957, 1394), (1921, 2387), (2795, 3260), (3759, 4000))
    np.testing.assert_allclose(
        camera.pan[::400], [0.0, 0.0, 10.43, 17.27, 11.98, 2.41, 2.5, 16.23, 16.72, 8.34], atol=0.006
    )
    for begin, end in camera.rests:
        assert np.ptp(camera.pan[begin + 40 : end]) < 1e-9, "at rest 0.2 s after the brake"
    things = make_scene(np.random.default_rng(7), 2001, 200, HEIGHT, WIDTH).objects
    found = [
        (one.class_id, one.first, len(one.x), one.stops, one.x[0], one.x[-1], one.y[0], one.depth, one.phase[-1])
        for one in things
    ]
    np.testing.assert_allclose(
        np.array(found, float),
        [
            (0.0, 345.0, 1656.0, 1.0, 160.0, 50.17, 27.18, 0.017, -5.303),
            (0.0, 0.0, 1117.0, 1.0, 108.14, 159.9, 29.19, 0.063, 4.639),
            (1.0, 1481.0, 520.0, 0.0, -35.0, 44.73, 47.64, 0.255, 5.932),
            (1.0, 0.0, 575.0, 0.0, 101.74, -37.89, 50.55, 0.317, -7.03),
            (0.0, 1037.0, 964.0, 1.0, 160.0, 73.33, 40.33, 0.335, -3.616),
            (0.0, 850.0, 1151.0, 1.0, 160.0, 73.44, 43.85, 0.405, -3.409),
            (1.0, 1805.0, 196.0, 0.0, 160.0, 111.69, 57.46, 0.457, -2.097),
            (0.0, 1577.0, 424.0, 0.0, -15.0, 29.33, 47.04, 0.486, 1.71),
            (1.0, 97.0, 1222.0, 0.0, 160.0, -41.92, 59.39, 0.487, -10.108),
            (0.0, 525.0, 1476.0, 0.0, 160.0, 35.42, 49.18, 0.537, -4.252),
            (1.0, 1958.0, 43.0, 0.0, -44.0, -33.6, 62.79, 0.556, 1.081),
            (0.0, 0.0, 375.0, 0.0, 28.92, -15.93, 55.96, 0.692, -0.789),
        ],
        atol=0.006,
    )


@pytest.fixture(scope="module")
def scenes():
    """10 s at 200 Hz, twice as large as the frame of 160 x 120 pixels in which speeds are defined."""
    return [make_scene(np.random.default_rng(seed), 2001, 200, 240, 320) for seed in range(4)]


def plateaus(values):
    """Value and length of each run of equal values, without the first and the last one, which may be cut off."""
    bounds = np.flatnonzero(np.abs(np.diff(values)) > 1e-9) + 1
    return [(values[begin], end - begin) for begin, end in zip(bounds, bounds[1:], strict=False)]


def test_the_camera_pans_and_pauses(scenes):
    for scene in scenes:
        assert scene.background.shape == (240, 640) and scene.pan.shape == (2001,)
        parts = [(abs(speed), length) for speed, length in plateaus(np.diff(scene.pan) * 200) if length > 50]
        assert len(parts) >= 2
        for speed, length in parts:
            if speed < 1e-6:
                assert 2.0 * 200 - 41 <= length <= 2.6 * 200 - 38  # the camera needs 0.2 s to stop
            else:
                assert 8 <= speed <= 16 and 2.0 * 200 - 41 <= length <= 3.5 * 200 - 38


def test_objects_cross_the_frame_at_their_speed(scenes):
    objects = [(scene, thing) for scene in scenes for thing in scene.objects]
    for scene, thing in objects:
        height, width = thing.sprite.shape[2:]
        drift = scene.pan[thing.first : thing.first + len(thing.x)] - scene.pan[thing.first]
        way = thing.x - thing.x[0] + drift
        np.testing.assert_allclose(way, 0.8 * height * (thing.phase - thing.phase[0]), atol=1e-6)  # a cycle's length
        steps = np.abs(np.diff(way))
        least, most = {PEDESTRIAN: (16, 32), CAR: (25, 60)}[thing.class_id]
        if steps.size:
            assert 2 * least / 200 <= steps.max() + 1e-9 and steps.max() <= 2 * most / 200 + 1e-9
            assert thing.stops or steps.min() == pytest.approx(steps.max())
        assert -width <= thing.x.min() and thing.x.max() <= 320
        enters = thing.x[0] == (-width if way[-1] > 0 else 320)  # at the side from which it moves
        assert enters or thing.first == 0 and -0.3 * width <= thing.x[0] <= 320 - 0.7 * width
    assert min(thing.first for _, thing in objects) == 0 < max(thing.first for _, thing in objects) < 2000


def test_near_objects_are_lower_and_drawn_last(scenes):
    for scene in scenes:
        depths = [thing.depth for thing in scene.objects]
        assert depths == sorted(depths)
        arrivals = [thing.first for thing in sorted(scene.objects, key=lambda thing: thing.track_id)]
        assert arrivals == sorted(arrivals)
        for thing in scene.objects:
            height = thing.sprite.shape[2]
            bob = 0.012 * height * np.abs(np.sin(2 * np.pi * thing.phase)) if thing.class_id == PEDESTRIAN else 0
            foot = thing.y + height + bob
            assert foot[0] == pytest.approx(240 * (0.42 + 0.53 * thing.depth))
            way = np.abs(thing.phase - thing.phase[0]) * 0.8 * height
            assert (np.abs(foot - foot[0]) <= 0.05 * way + 1e-6).all()
            slope = np.polyfit(way, foot, 1) if way[-1] > 1 else (0, foot[0])
            np.testing.assert_allclose(foot, np.polyval(slope, way), atol=1e-6)


def test_objects_stop_with_the_camera(scenes):
    stopped = [(scene, thing) for scene in scenes for thing in scene.objects if thing.stops]
    assert stopped
    for scene, thing in stopped:
        begin = int(np.argmax(np.diff(thing.phase) == 0))
        moment = thing.first + begin
        assert scene.pan[moment] == pytest.approx(scene.pan[moment + 1], abs=1e-9)
        assert scene.pan[moment - 3] != scene.pan[moment] or moment == 40  # the camera has just stopped
        width = thing.sprite.shape[3]
        inside = min(thing.x[begin] + width, 320) - max(thing.x[begin], 0)
        assert inside > 0.6 * width
        still = np.count_nonzero(np.diff(thing.phase) == 0)
        assert still <= 1.7 * 200 + 2 and (still >= 1.2 * 200 - 2 or begin + still >= len(thing.x) - 2)


def test_classes_arrive_at_their_mean_intervals(scenes):
    for class_id, interval in ((PEDESTRIAN, 3.0), (CAR, 2.2)):
        later = [sum(thing.first > 0 and thing.class_id == class_id for thing in scene.objects) for scene in scenes]
        assert np.mean(later) == pytest.approx(10 / interval, abs=2)
        first = [sum(thing.first == 0 and thing.class_id == class_id for thing in scene.objects) for scene in scenes]
        assert set(first) <= {1, 2}


def test_drawings_between_two_phases_are_mixed():
    sprite = np.zeros((4, 2, 1, 1), np.float32)
    sprite[:, 0, 0, 0] = [1, 3, 7, 15]
    phase = np.array([0.0, 0.0625, 0.25, 0.9375, 1.125, -0.125])
    thing = SceneObject(PEDESTRIAN, 0, sprite, 0.5, 0, np.zeros(6), np.zeros(6), phase, False)
    assert [thing.drawing(age)[0, 0, 0] for age in range(6)] == [1, 1.5, 3, 4.5, 2, 8]


def test_an_object_at_the_lower_right_corner_is_cut_off():
    image = box_scene(box_object([27.0], [18.0])).render(0)
    np.testing.assert_array_equal(image[18:, 27:], np.float32(0.9))
    assert (image[:18] == 0.5).all() and (image[:, :27] == 0.5).all()
    shifted = box_scene(box_object([9.0], [5.25])).render(0)
    np.testing.assert_allclose(shifted[4:11, 10], [0.5, 0.8, 0.9, 0.9, 0.9, 0.6, 0.5], rtol=1e-6)


def test_objects_exist_from_their_first_moment():
    scene = box_scene(box_object([3.0, 4.0], [5.0, 5.0], first=1), moments=4)
    assert [[age for _, _, age in scene.present(moment)] for moment in range(4)] == [[], [0], [1], []]


def test_an_object_stops_at_the_first_stop_at_which_most_of_it_is_in_the_frame():
    stage = _Stage(120, 160, 100.0, np.zeros(1000), ((0, 400), (500, 900)))
    inside, partly, outside = (np.full(2000, x) for x in (50.0, 160 - 0.71 * 20, 160 - 0.69 * 20))
    assert _find_rest(inside, 20, -50, stage) == _find_rest(partly, 20, -50, stage) == 20  # the camera brakes for 0.2 s
    assert _find_rest(inside, 20, 10, stage) == 520, "it would stop 0.1 s after its arrival"
    assert _find_rest(outside, 20, -50, stage) is None
    assert _find_rest(inside[:300], 20, -50, stage) == 20 and _find_rest(inside[:60], 20, -50, stage) is None
