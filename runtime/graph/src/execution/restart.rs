//! Restart strategies: may the job restart after this failure, and when. Flink's RestartBackoffTimeStrategy.

use std::collections::VecDeque;
use std::time::Duration;

use thalweg_types::config::{ConfigError, ConfigOption, Configuration, RestartStrategyKind, options};

/// A restart strategy and its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RestartStrategy {
    /// Never.
    None,
    /// So many times, after so long.
    FixedDelay {
        /// Restarts in all.
        attempts: u32,
        /// Before each.
        delay_ms: u64,
    },
    /// As long as failures are rare enough.
    FailureRate {
        /// Failures that are still borne within the interval.
        max_failures: u32,
        /// The interval.
        interval_ms: u64,
        /// Before each restart.
        delay_ms: u64,
    },
    /// After a time that grows with each failure and is the first one again after a quiet time.
    ExponentialDelay {
        /// The first.
        initial_ms: u64,
        /// The longest.
        max_ms: u64,
        /// How it grows.
        multiplier: f64,
        /// The quiet time.
        reset_threshold_ms: u64,
        /// Share of the delay by which it varies, up and down.
        jitter: f64,
        /// Restarts in a row; `None` = no limit.
        attempts: Option<u32>,
    },
}

impl RestartStrategy {
    /// As configured; without `restart-strategy.type`: exponential-delay with checkpoints, none without.
    pub fn from_configuration(configuration: &Configuration) -> Result<Self, ConfigError> {
        let kind = match configuration.get(&options::RESTART_STRATEGY)? {
            Some(kind) => kind,
            None if configuration
                .get(&options::CHECKPOINTING_INTERVAL)?
                .is_some_and(|interval| !interval.is_zero()) =>
            {
                RestartStrategyKind::ExponentialDelay
            }
            None => RestartStrategyKind::None,
        };
        let milliseconds = |option: &ConfigOption<Duration>| -> Result<u64, ConfigError> {
            Ok(u64::try_from(configuration.get(option)?.as_millis()).unwrap_or(u64::MAX))
        };
        Ok(match kind {
            RestartStrategyKind::None => Self::None,
            RestartStrategyKind::FixedDelay => Self::FixedDelay {
                attempts: configuration.get(&options::RESTART_STRATEGY_FIXED_DELAY_ATTEMPTS)?,
                delay_ms: milliseconds(&options::RESTART_STRATEGY_FIXED_DELAY_DELAY)?,
            },
            RestartStrategyKind::FailureRate => Self::FailureRate {
                max_failures: configuration.get(&options::RESTART_STRATEGY_FAILURE_RATE_MAX_FAILURES)?,
                interval_ms: milliseconds(&options::RESTART_STRATEGY_FAILURE_RATE_INTERVAL)?,
                delay_ms: milliseconds(&options::RESTART_STRATEGY_FAILURE_RATE_DELAY)?,
            },
            RestartStrategyKind::ExponentialDelay => Self::ExponentialDelay {
                initial_ms: milliseconds(&options::RESTART_STRATEGY_EXPONENTIAL_INITIAL_BACKOFF)?,
                max_ms: milliseconds(&options::RESTART_STRATEGY_EXPONENTIAL_MAX_BACKOFF)?,
                multiplier: configuration.get(&options::RESTART_STRATEGY_EXPONENTIAL_MULTIPLIER)?,
                reset_threshold_ms: milliseconds(&options::RESTART_STRATEGY_EXPONENTIAL_RESET_THRESHOLD)?,
                jitter: configuration.get(&options::RESTART_STRATEGY_EXPONENTIAL_JITTER)?,
                attempts: configuration.get(&options::RESTART_STRATEGY_EXPONENTIAL_ATTEMPTS)?,
            },
        })
    }
}

/// What a strategy says to a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backoff {
    /// Restart after so long.
    Restart {
        /// Milliseconds from the failure.
        delay_ms: u64,
    },
    /// The job fails; why, as half a sentence.
    GiveUp {
        /// "all 3 restarts of restart-strategy fixed-delay are used up"
        reason: String,
    },
}

/// A strategy and what it remembers.
#[derive(Debug, Clone)]
pub struct RestartBackoff {
    strategy: RestartStrategy,
    /// fixed-delay: in all; exponential-delay: since the last quiet time.
    attempts: u32,
    /// failure-rate: the newest failures, one more than are borne.
    failures: VecDeque<u64>,
    /// exponential-delay: before jitter.
    current_ms: u64,
    next_restart_ms: Option<u64>,
}

impl RestartBackoff {
    /// A strategy that has seen no failure.
    pub fn new(strategy: RestartStrategy) -> Self {
        Self {
            strategy,
            attempts: 0,
            failures: VecDeque::new(),
            current_ms: 0,
            next_restart_ms: None,
        }
    }

    /// Takes in a failure. `random` is evenly drawn from 0 to 1.
    pub fn notify_failure(&mut self, now_ms: u64, random: f64) -> Backoff {
        match self.strategy {
            RestartStrategy::None => Backoff::GiveUp {
                reason: "restart-strategy is none".to_owned(),
            },
            RestartStrategy::FixedDelay { attempts, delay_ms } => {
                self.attempts = self.attempts.saturating_add(1);
                if self.attempts <= attempts {
                    Backoff::Restart { delay_ms }
                } else {
                    give_up(attempts, "restart-strategy fixed-delay")
                }
            }
            RestartStrategy::FailureRate {
                max_failures,
                interval_ms,
                delay_ms,
            } => {
                self.failures.push_back(now_ms);
                if self.failures.len() <= max_failures as usize {
                    return Backoff::Restart { delay_ms };
                }
                match self.failures.pop_front() {
                    Some(earliest) if now_ms.saturating_sub(earliest) > interval_ms => {
                        Backoff::Restart { delay_ms }
                    }
                    _ => Backoff::GiveUp {
                        reason: format!(
                            "more than {max_failures} failures within {interval_ms} ms (restart-strategy failure-rate)"
                        ),
                    },
                }
            }
            RestartStrategy::ExponentialDelay { .. } => self.exponential(now_ms, random),
        }
    }

    fn exponential(&mut self, now_ms: u64, random: f64) -> Backoff {
        let RestartStrategy::ExponentialDelay {
            initial_ms,
            max_ms,
            multiplier,
            reset_threshold_ms,
            jitter,
            attempts,
        } = self.strategy
        else {
            return Backoff::Restart { delay_ms: 0 };
        };
        if let Some(next) = self.next_restart_ms
            && now_ms < next
        {
            // one more failure before the restart that an earlier one led to
            return Backoff::Restart {
                delay_ms: next - now_ms,
            };
        }
        let quiet_ms = self.next_restart_ms.map(|restarted| now_ms - restarted);
        if quiet_ms.is_none_or(|quiet| quiet >= reset_threshold_ms) {
            self.attempts = 0;
            self.current_ms = initial_ms;
        } else {
            self.current_ms = ((self.current_ms as f64 * multiplier) as u64).max(initial_ms);
        }
        self.current_ms = self.current_ms.min(max_ms);
        self.attempts = self.attempts.saturating_add(1);
        if let Some(limit) = attempts
            && self.attempts > limit
        {
            return give_up(limit, "restart-strategy exponential-delay");
        }
        let offset = self.current_ms as f64 * jitter * (random.clamp(0.0, 1.0) * 2.0 - 1.0);
        let delay_ms = ((self.current_ms as f64 + offset) as u64).min(max_ms);
        self.next_restart_ms = Some(now_ms.saturating_add(delay_ms));
        Backoff::Restart { delay_ms }
    }
}

fn give_up(attempts: u32, strategy: &str) -> Backoff {
    let reason = match attempts {
        1 => format!("the one restart of {strategy} is used up"),
        _ => format!("all {attempts} restarts of {strategy} are used up"),
    };
    Backoff::GiveUp { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPONENTIAL: RestartStrategy = RestartStrategy::ExponentialDelay {
        initial_ms: 1_000,
        max_ms: 5_000,
        multiplier: 2.0,
        reset_threshold_ms: 60_000,
        jitter: 0.0,
        attempts: None,
    };

    /// Delays after failures at these times; `None` = gives up.
    fn delays(strategy: RestartStrategy, failures: &[u64]) -> Vec<Option<u64>> {
        let mut backoff = RestartBackoff::new(strategy);
        let delay = |at: &u64| match backoff.notify_failure(*at, 0.5) {
            Backoff::Restart { delay_ms } => Some(delay_ms),
            Backoff::GiveUp { .. } => None,
        };
        failures.iter().map(delay).collect()
    }

    #[test]
    fn none_never_restarts() {
        assert_eq!(delays(RestartStrategy::None, &[0]), [None]);
    }

    #[test]
    fn fixed_delay_restarts_as_often_as_it_says() {
        let strategy = RestartStrategy::FixedDelay {
            attempts: 2,
            delay_ms: 7,
        };
        assert_eq!(
            delays(strategy, &[0, 1_000, 2_000, 3_000]),
            [Some(7), Some(7), None, None]
        );
    }

    #[test]
    fn failure_rate_bears_so_many_failures_within_the_interval() {
        let strategy = RestartStrategy::FailureRate {
            max_failures: 2,
            interval_ms: 100,
            delay_ms: 7,
        };
        assert_eq!(delays(strategy, &[0, 50, 101]), [Some(7), Some(7), Some(7)]);
        assert_eq!(delays(strategy, &[0, 50, 100]), [Some(7), Some(7), None]);
    }

    #[test]
    fn exponential_delay_grows_to_its_limit_and_starts_again_after_a_quiet_time() {
        let restarted = [0, 2_000, 5_000, 10_000, 20_000];
        assert_eq!(
            delays(EXPONENTIAL, &restarted),
            [Some(1_000), Some(2_000), Some(4_000), Some(5_000), Some(5_000)]
        );
        assert_eq!(
            delays(EXPONENTIAL, &[0, 2_000, 64_000]),
            [Some(1_000), Some(2_000), Some(1_000)]
        );
    }

    #[test]
    fn failures_before_the_restart_share_it() {
        assert_eq!(
            delays(EXPONENTIAL, &[0, 400, 1_500]),
            [Some(1_000), Some(600), Some(2_000)]
        );
    }

    #[test]
    fn jitter_spreads_the_delay_both_ways() {
        let RestartStrategy::ExponentialDelay {
            initial_ms,
            max_ms,
            multiplier,
            reset_threshold_ms,
            ..
        } = EXPONENTIAL
        else {
            unreachable!()
        };
        let strategy = RestartStrategy::ExponentialDelay {
            initial_ms,
            max_ms,
            multiplier,
            reset_threshold_ms,
            jitter: 0.1,
            attempts: Some(1),
        };
        for (random, delay_ms) in [(0.0, 900), (0.5, 1_000), (0.75, 1_050)] {
            assert_eq!(
                RestartBackoff::new(strategy).notify_failure(0, random),
                Backoff::Restart { delay_ms }
            );
        }
    }

    #[test]
    fn exponential_delay_gives_up_after_its_attempts_in_a_row() {
        let strategy = RestartStrategy::ExponentialDelay {
            initial_ms: 1,
            max_ms: 1,
            multiplier: 1.0,
            reset_threshold_ms: 100,
            jitter: 0.0,
            attempts: Some(2),
        };
        assert_eq!(delays(strategy, &[0, 10, 20]), [Some(1), Some(1), None]);
        assert_eq!(
            delays(strategy, &[0, 10, 200, 210, 220]),
            [Some(1), Some(1), Some(1), Some(1), None]
        );
    }

    #[test]
    fn the_default_is_none_without_checkpoints_and_exponential_delay_with_them() {
        let mut configuration = Configuration::default();
        assert_eq!(
            RestartStrategy::from_configuration(&configuration),
            Ok(RestartStrategy::None)
        );
        configuration.set("execution.checkpointing.interval", "10 s");
        assert!(matches!(
            RestartStrategy::from_configuration(&configuration),
            Ok(RestartStrategy::ExponentialDelay {
                initial_ms: 1_000,
                max_ms: 60_000,
                attempts: None,
                ..
            })
        ));
        configuration.set("restart-strategy.type", "fixed-delay");
        assert_eq!(
            RestartStrategy::from_configuration(&configuration),
            Ok(RestartStrategy::FixedDelay {
                attempts: 1,
                delay_ms: 1_000
            })
        );
    }
}
