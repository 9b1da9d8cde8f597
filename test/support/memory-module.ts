/** Owns the store in memory as a module that the configuration names under `adapters`, for the assembled process. */
import { memoryStore } from './memory-adapter.ts'

/** What the backend `memory` holds, in this test process. */
export const memory = memoryStore()
export const { adapter } = memory
/** For `adapters`. */
export const MEMORY_MODULE = import.meta.filename
