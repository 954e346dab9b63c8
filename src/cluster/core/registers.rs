//! A last-writer-wins register per entity: how writes of several nodes become one state.
