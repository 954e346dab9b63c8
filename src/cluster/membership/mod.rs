//! Finds peers: chitchat over the mesh, seeds by name and address, a supervisor around it.
