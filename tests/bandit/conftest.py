from hypothesis import HealthCheck, settings

# Tests never time things: a busy machine must not fail one.
settings.register_profile("untimed", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
