"""Blender's scene: studio, light, camera, materials, and the finished picture."""
