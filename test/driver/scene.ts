/** Owns opening and closing a stage with one provider around a group of tests. */
import { afterAll, beforeAll } from 'vitest'
import type { RunningProvider } from './provider.ts'
import { openStage } from './stage.ts'
import type { Stage, StageOptions } from './stage.ts'
import type { Subject, SubjectFactory } from './subject.ts'

export interface Scene {
  readonly stage: Stage
  readonly subject: Subject
  /** The process started with the scene. */
  readonly provider: RunningProvider
}

/** One stage for a group of tests; each test uses SecretProviderClasses and pods of its own. */
export function sceneFor(factory: SubjectFactory, options: StageOptions): () => Scene {
  let current: Scene | undefined
  beforeAll(async () => {
    const stage = await openStage(options)
    const subject = await factory(stage)
    current = { stage, subject, provider: await subject.start() }
  })
  afterAll(async () => {
    await current?.provider.stop()
    await current?.stage.close()
  })
  return () => {
    if (!current) throw new Error('the stage is not open')
    return current
  }
}
