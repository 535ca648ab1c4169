"""The method: a language model with LoRA that generates the parameters of a target network. Start in generator.py."""
