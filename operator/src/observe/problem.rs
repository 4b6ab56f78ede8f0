//! Why a pod doesn't run, as its user would want to read it.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use kube::ResourceExt;

/// Longest text that is taken from a log line.
const LINE_MAX_CHARS: usize = 400;

/// What keeps a pod from running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodProblem {
    /// Reason of the condition and the event.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// The first thing wrong with a pod.
pub(super) fn find(pod: &Pod) -> Option<PodProblem> {
    let name = pod.name_any();
    let status = pod.status.as_ref()?;
    if status.phase.as_deref() == Some("Failed") {
        let reason = status.reason.as_deref().unwrap_or("Failed");
        if let Some(message) = status.message.as_deref() {
            return Some(problem("PodFailed", format!("pod {name}: {reason}: {message}")));
        }
    }
    let containers = status.init_container_statuses.iter().flatten();
    let containers = containers.chain(status.container_statuses.iter().flatten());
    if let Some(found) = containers
        .into_iter()
        .find_map(|container| container_problem(&name, container))
    {
        return Some(found);
    }
    let scheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled")?;
    (scheduled.status == "False" && scheduled.reason.as_deref() == Some("Unschedulable")).then(|| {
        let message = scheduled.message.as_deref().unwrap_or("no node takes it");
        problem(
            "Unschedulable",
            format!("pod {name} can't be scheduled: {message}"),
        )
    })
}

fn problem(reason: &'static str, message: String) -> PodProblem {
    PodProblem { reason, message }
}

fn container_problem(pod: &str, container: &ContainerStatus) -> Option<PodProblem> {
    let state = container.state.as_ref()?;
    let last = container
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    if let Some(ended) = &state.terminated {
        let init_done = ended.exit_code == 0;
        return (!init_done).then(|| crash(pod, container, ended));
    }
    // It runs again and isn't ready: until it is, the crash before is what there is to say.
    if state.running.is_some() && !container.ready {
        return last
            .filter(|ended| ended.exit_code != 0)
            .map(|ended| crash(pod, container, ended));
    }
    let waiting = state.waiting.as_ref()?;
    let message = waiting.message.as_deref().unwrap_or_default();
    match waiting.reason.as_deref().unwrap_or_default() {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "RegistryUnavailable"
        | "ImageInspectError" => Some(problem(
            "ImagePullError",
            format!(
                "image {:?} of pod {pod} can't be pulled: {}",
                container.image,
                pull_error(message)
            ),
        )),
        "CrashLoopBackOff" => Some(match last {
            Some(ended) => crash(pod, container, ended),
            None => problem(
                "CrashLoop",
                format!("container {} of pod {pod}: {message}", container.name),
            ),
        }),
        reason @ ("CreateContainerConfigError"
        | "CreateContainerError"
        | "RunContainerError"
        | "PreCreateHookError"
        | "PostStartHookError") => Some(problem(
            "StartError",
            format!(
                "container {} of pod {pod} can't be started: {reason}: {message}",
                container.name
            ),
        )),
        _ => None,
    }
}

/// The registry's answer: the kubelet tells it at a try as it is and between tries behind "Back-off ...: ErrImagePull: ",
/// and a status that changed with every try would be an event with every try.
fn pull_error(message: &str) -> &str {
    message
        .split_once("ErrImagePull: ")
        .map_or(message, |(_, cause)| cause)
}

/// A container that ended: its exit and the last line that it wrote (`FallbackToLogsOnError` puts it here).
fn crash(pod: &str, container: &ContainerStatus, ended: &ContainerStateTerminated) -> PodProblem {
    let times = match container.restart_count {
        0 => String::new(),
        count => format!(", restarted {count} times"),
    };
    let exit = match ended.reason.as_deref() {
        Some("OOMKilled") => "was killed for using more memory than its limit".to_owned(),
        _ => format!("ended with exit code {}", ended.exit_code),
    };
    let line = ended
        .message
        .as_deref()
        .and_then(last_line)
        .map(|line| format!(": {line}"))
        .unwrap_or_default();
    let reason = if container.restart_count > 0 {
        "CrashLoop"
    } else {
        "ContainerEnded"
    };
    problem(
        reason,
        format!("container {} of pod {pod} {exit}{times}{line}", container.name),
    )
}

fn last_line(text: &str) -> Option<String> {
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().take(LINE_MAX_CHARS).collect())
}
