def test_x(small_posterior, small_bundle):
    print(small_posterior.training, list(small_bundle.iterdir()))
