/** Owns what the common suites need of a provider, so that the same tests run against any of them. */
import type { RunningProvider } from './provider.ts'
import type { Stage } from './stage.ts'

/** File name → text, as a pod shall see it. */
export type Contents = Readonly<Record<string, string>>

/** A provider under test, bound to one stage. */
export interface Subject {
  /** `spec.provider`, thus the socket's name. */
  readonly provider: string
  /**
   * Starts a process that serves the stage; a second one takes the socket over while the first still runs.
   * Default directory: the main one of the stage.
   */
  readonly start: (directories?: readonly string[]) => Promise<RunningProvider>
  /** Makes or changes the SecretProviderClass of that name so that it yields these files; the driver knows. */
  readonly yields: (secretProviderClass: string, contents: Contents) => Promise<void>
  /** Makes the same SecretProviderClass fail, as a broken backend would. */
  readonly breaks: (secretProviderClass: string) => Promise<void>
  /** A text that the failure of {@link breaks} shows to the user. */
  readonly failure: RegExp
}

export type SubjectFactory = (stage: Stage) => Promise<Subject>
