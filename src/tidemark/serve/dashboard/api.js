// How is the HTTP API asked? JSON, with a deadline, and errors as the API's problem documents tell them.

import { heard } from "./clock.js";

const DEADLINE_MS = 15_000; // past this the reader is better served by a sentence than by waiting

/** What the API refused, or that it could not be reached: then `status` is 0. */
export class ApiError extends Error {
  constructor(status, title, detail) {
    super(detail);
    this.status = status;
    this.title = title;
    this.detail = detail;
  }
}

/** The JSON of an answer. Throws ApiError; an abort by the caller's `signal` throws its AbortError. */
export async function get(path, { signal, deadlineMs = DEADLINE_MS } = {}) {
  const deadline = AbortSignal.timeout(deadlineMs);
  let response;
  try {
    response = await fetch(path, { signal: signal ? AbortSignal.any([signal, deadline]) : deadline });
    heard(response);
    if (response.ok) return await response.json();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "The server does not answer", "Tidemark cannot be reached just now.");
  }
  const problem = await response.json().catch(() => ({}));
  throw new ApiError(response.status, problem.title ?? response.statusText, problem.detail ?? "");
}

/** Whether the server answers at all, within a few seconds. */
export async function answers() {
  try {
    return (await fetch("/healthz", { signal: AbortSignal.timeout(4_000), cache: "no-store" })).ok;
  } catch {
    return false;
  }
}

/** `path` with the given query, without what is null or undefined. */
export function address(path, query) {
  const wanted = Object.entries(query).filter(([, value]) => value != null);
  return wanted.length ? `${path}?${new URLSearchParams(wanted)}` : path;
}
