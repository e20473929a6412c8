"""`python -m webhook`: serves the application in several processes until it is told to stop."""

import gc


def main() -> None:
    """Reads the settings once, here; each process makes its own application from them."""
    import workers.process.lean_imports  # noqa: F401 - before all that it keeps out

    gc.disable()  # what is imported stays: to look through it for garbage is a sixth of the time to the first answer
    from models.failpoints import arm_failpoints
    from models.settings import SettingsError, read_settings
    from webhook.app import RECEIPT_PATHS, alive, create_app, refuse_unusable
    from webhook.lanes import Lanes
    from webhook.server import serve
    from workers.process.redis_address import redis_address
    from workers.telemetry.logs import set_up_logs, tell_notices
    from workers.telemetry.metrics_files import share_counters

    gc.freeze()
    gc.enable()
    try:
        settings = read_settings()
        set_up_logs(level=settings.log_level, form=settings.log_format)
        tell_notices(settings.notices)
        share_counters(settings)
        redis_address(settings.redis_url)
        refuse_unusable(settings)
    except SettingsError as error:
        raise SystemExit(f"web was not started: {error}") from None
    arm_failpoints(settings.failpoints_folder)
    serve(
        lambda: create_app(settings),
        host=settings.host,
        port=settings.port,
        processes=settings.web_processes,
        lanes=lambda: Lanes(first=RECEIPT_PATHS, threads=settings.web_threads, others=settings.web_other_threads),
        log_level=settings.log_level,
        while_serving=lambda: alive(settings),
    )


if __name__ == "__main__":
    main()
