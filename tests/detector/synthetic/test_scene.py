import numpy as np

from detector.synthetic.scene import Scene, SceneObject, _plan_camera, make_scene

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
